"""Run the real `lifepool` console script, as a shell would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(sys.executable).with_name("lifepool")
TIMEOUT = 50  # seconds on a busy machine; usually half of one


def lifepool(
    *arguments: str | Path, cwd: Path | None = None, stdin: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ``lifepool ARGUMENTS`` and wait for its end."""
    return subprocess.run(
        [SCRIPT, *arguments],
        cwd=cwd,
        input=stdin,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
