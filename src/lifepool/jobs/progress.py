"""How a job says how far it is. Workers import this module: keep it light."""

from __future__ import annotations

import json
from typing import Any

from lifepool._inside.state import report_progress as report_to_pool
from lifepool.jobs.records import JobProgress

#: Characters of a message that are stored.
MAX_MESSAGE = 500


def report_progress(
    done: float, total: float | None = None, message: str | None = None, *, unit: str | None = None
) -> None:
    """Say how far the running job is. Outside of a job this does nothing.

    It may be called as often as one likes: a few times a second the latest report is stored.

    Args:
        done: What is done.
        total: What there is to do, if that is known.
        message: For people.
        unit: Of ``done`` and ``total``, such as ``"bytes"``.
    """
    report_to_pool((done, total, message, unit))


def stored(reported: Any) -> str | None:
    """Return the text that is stored for what a task reported; None if it can't be read as a progress.

    A plain number, as tasks report it to ``lifepool.report_progress``, is a fraction of 1.
    """
    if isinstance(reported, (int, float)):
        reported = (reported, 1.0, None, None)
    if not isinstance(reported, tuple) or len(reported) != 4:
        return None
    done, total, message, unit = reported
    if not isinstance(done, (int, float)) or not (total is None or isinstance(total, (int, float))):
        return None
    message = None if message is None else str(message)[:MAX_MESSAGE]
    try:
        return json.dumps([done, total, message, None if unit is None else str(unit)], allow_nan=False)
    except ValueError:
        return None


def loaded(text: str | None) -> JobProgress | None:
    """Read what ``stored`` made."""
    return None if text is None else JobProgress(*json.loads(text))
