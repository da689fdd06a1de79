"""Files without a name: nothing has to be found for them in the file system, and nothing is left there."""

from __future__ import annotations

import contextlib
import os
from typing import IO


def nameless_file() -> IO[bytes]:
    """Open a file in memory where the system has such: a temporary folder may be missing, or read-only."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return open(os.memfd_create("lifepool"), "w+b")
    import tempfile  # only then: it costs some milliseconds

    return tempfile.TemporaryFile()
