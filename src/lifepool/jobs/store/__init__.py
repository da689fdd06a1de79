"""Where jobs are kept: one set of operations, on SQLite and on PostgreSQL."""
