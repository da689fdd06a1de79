"""The reference service, but a search job waits at a gate after each piece: `python -m tests.examples.domains.held`.

The gate is a named pipe, its path is in GATE: a byte written to it lets one piece pass.
"""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

from examples.domains import app, search_job
from examples.domains.__main__ import main
from lifepool._core import policy
from lifepool.jobs import report_progress
from tests.examples.domains import held

# On a busy machine a search gives in late: its worker is not to be killed for that.
vars(policy)["INTERRUPT_GRACE_S"] = 30.0


def report_and_wait(done: int, total: int, *, unit: str) -> None:
    """Report the progress; wait for a byte in the pipe."""
    report_progress(done, total, unit=unit)
    with Path(os.environ["GATE"]).open("rb", buffering=0) as gate:
        gate.read(1)


def count_kept(name: str, content_type: str, content_encoding: str) -> dict[str, Any]:
    """Count the names in an upload, a piece at a time."""
    with patch.object(search_job, "report_progress", report_and_wait):
        return search_job.count_kept(name, content_type, content_encoding)


if __name__ == "__main__":
    with patch.object(app, "count_kept", held.count_kept):  # not `count_kept`: that is `__main__`'s
        main()
