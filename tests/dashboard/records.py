"""Records as a pool would make them, for what needs very many or very odd ones."""

from __future__ import annotations

from typing import Any

from lifepool.hooks import TaskRecord


def settled(number: int, *, name: str = "score", run_s: float | None = 0.001, **fields: Any) -> TaskRecord:
    """Return a task that has its outcome."""
    values: dict[str, Any] = {
        "id": number, "attempts": 1, "worker": 1, "sent": 1.0, "wait_s": 0.5, "run_s": run_s, "finished": 2.0,
        "outcome": "completed", **fields,
    }  # fmt: skip
    record = TaskRecord(name, 1.0)
    record.notes.update(values.pop("notes", {}))
    for field, value in values.items():
        setattr(record, field, value)
    return record


def failed(number: int, error: BaseException, **fields: Any) -> TaskRecord:
    """Return a task that raised."""
    return settled(number, **{"outcome": "failed", "error": error, **fields})
