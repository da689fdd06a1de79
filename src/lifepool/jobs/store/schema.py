"""The tables, and how a database of an older version gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.jobs.errors import StoreCorrupt

if TYPE_CHECKING:
    from lifepool.jobs.store.drivers import Transaction

#: What each version adds to the one before; never changed once it was released. ``<serial>``, ``<float>`` and
#: ``<bytes>`` stand for the driver's types.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE lifepool_jobs (
            seq <serial>,
            id TEXT NOT NULL UNIQUE,
            state TEXT NOT NULL,
            ready INTEGER NOT NULL,
            priority INTEGER NOT NULL,
            name TEXT NOT NULL,
            function TEXT NOT NULL,
            payload_hash TEXT NOT NULL,
            idempotency_key TEXT UNIQUE,
            limit_key TEXT,
            max_of_key INTEGER NOT NULL,
            tags TEXT NOT NULL,
            timeout <float>,
            retries INTEGER NOT NULL,
            max_attempts INTEGER NOT NULL,
            keep <float>,
            on_done TEXT,
            attempts INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            cancel_requested INTEGER NOT NULL DEFAULT 0,
            owner TEXT,
            token INTEGER NOT NULL DEFAULT 0,
            version INTEGER NOT NULL DEFAULT 1,
            created_at <float> NOT NULL,
            run_at <float>,
            started_at <float>,
            finished_at <float>,
            expires_at <float>,
            progress TEXT,
            failure TEXT,
            result_size BIGINT,
            arguments <bytes>,
            result <bytes>
        )
        """,
        "CREATE INDEX lifepool_jobs_ready ON lifepool_jobs (priority DESC, seq) WHERE state = 'queued' AND ready = 1",
        "CREATE INDEX lifepool_jobs_delayed ON lifepool_jobs (run_at) WHERE state = 'queued' AND ready = 0",
        "CREATE INDEX lifepool_jobs_running ON lifepool_jobs (owner) WHERE state = 'running'",
        "CREATE INDEX lifepool_jobs_limited ON lifepool_jobs (limit_key) WHERE state = 'running'",
        "CREATE INDEX lifepool_jobs_expiring ON lifepool_jobs (expires_at) WHERE expires_at IS NOT NULL",
        "CREATE INDEX lifepool_jobs_by_state ON lifepool_jobs (state, seq)",
        "CREATE INDEX lifepool_jobs_by_name ON lifepool_jobs (name, seq)",
        "CREATE TABLE lifepool_job_tags (tag TEXT NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (tag, seq))",
        "CREATE INDEX lifepool_job_tags_by_job ON lifepool_job_tags (seq)",
        """
        CREATE TABLE lifepool_job_parts (
            seq BIGINT NOT NULL,
            role TEXT NOT NULL,
            part INTEGER NOT NULL,
            data <bytes> NOT NULL,
            PRIMARY KEY (seq, role, part)
        )
        """,
        "CREATE TABLE lifepool_job_servers (id TEXT PRIMARY KEY, lease_until <float> NOT NULL)",
        """
        CREATE TABLE lifepool_job_calls (
            seq <serial>,
            job TEXT NOT NULL,
            target TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            due <float>,
            owner TEXT,
            failure TEXT
        )
        """,
        "CREATE INDEX lifepool_job_calls_due ON lifepool_job_calls (due) WHERE due IS NOT NULL",
        "CREATE INDEX lifepool_job_calls_by_job ON lifepool_job_calls (job)",
    ),
)


def migrate(transaction: Transaction) -> None:
    """Bring the schema to this version's; does nothing if it has it.

    Raises:
        StoreCorrupt: If a newer version made it.
    """
    transaction.driver.lock_schema(transaction)
    transaction.run("CREATE TABLE IF NOT EXISTS lifepool_jobs_schema (version INTEGER NOT NULL)")
    found = transaction.row("SELECT version FROM lifepool_jobs_schema")
    version = 0 if found is None else int(found[0])
    if version > len(MIGRATIONS):
        hint = "run the version of lifepool that made it, or a later one"
        raise StoreCorrupt(f"the job store has schema {version}, this version knows {len(MIGRATIONS)}", hint=hint)
    if version == len(MIGRATIONS):
        return
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            for placeholder, name in transaction.driver.types.items():
                statement = statement.replace(f"<{placeholder}>", name)
            transaction.run(statement)
    if found is None:
        transaction.run("INSERT INTO lifepool_jobs_schema (version) VALUES (?)", len(MIGRATIONS))
    else:
        transaction.run("UPDATE lifepool_jobs_schema SET version = ?", len(MIGRATIONS))
