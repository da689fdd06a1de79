"""Ids: unlike any other, in about the order in which they were made, and not to be guessed."""

from __future__ import annotations

import secrets
import time
import uuid


def new_id() -> str:
    """Return a new UUID of version 7 (RFC 9562): 48 bits of milliseconds, 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    number = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62
    return str(uuid.UUID(int=number | (random & ((1 << 62) - 1))))
