"""Cursors: where a page of jobs begins."""

from __future__ import annotations

import base64
import binascii


def cursor_of(seq: int) -> str:
    """Return the cursor of what comes after the job with this number."""
    return base64.urlsafe_b64encode(str(seq).encode()).decode().rstrip("=")


def position_of(cursor: str | None) -> int | None:
    """Return the number that a cursor stands for.

    Raises:
        ValueError: If it is no cursor.
    """
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    if not text.isdecimal() or len(text) > 18:
        raise ValueError(f"cursor={cursor[:50]!r}: expected what the page before has as 'next'")
    return int(text)
