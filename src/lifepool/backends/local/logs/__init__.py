"""Forward log records from workers to the server."""
