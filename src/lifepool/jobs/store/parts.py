"""Large arguments and results, in parts: a row of jobs is written anew with each change, and has to stay small."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool.jobs.sealing import Role
    from lifepool.jobs.store.drivers import Transaction

#: Bytes that lie in the job's own row: with them it still fits on a page of SQLite.
INLINE_BYTES = 2048
#: Bytes of a part.
PART_BYTES = 256 * 1024


def inline(data: bytes | None) -> bytes | None:
    """Return what goes into the row: all of it, or nothing if it is stored in parts."""
    return data if data is not None and len(data) <= INLINE_BYTES else None


def store_parts(transaction: Transaction, seq: int, role: Role, data: bytes | None) -> None:
    """Store in parts what does not go into the row; in the place of what was there."""
    transaction.run("DELETE FROM lifepool_job_parts WHERE seq = ? AND role = ?", seq, role)
    if data is None or len(data) <= INLINE_BYTES:
        return
    view = memoryview(data)
    for part, at in enumerate(range(0, len(data), PART_BYTES)):
        piece = bytes(view[at : at + PART_BYTES])
        sql = "INSERT INTO lifepool_job_parts (seq, role, part, data) VALUES (?, ?, ?, ?)"
        transaction.run(sql, seq, role, part, piece)


def load(transaction: Transaction, seq: int, role: Role, from_row: bytes | None) -> bytes:
    """Return what was stored."""
    if from_row is not None:
        return bytes(from_row)
    sql = "SELECT data FROM lifepool_job_parts WHERE seq = ? AND role = ? ORDER BY part"
    return b"".join(bytes(data) for (data,) in transaction.rows(sql, seq, role))
