"""The earlier commit that lifepool is compared with, and its sources."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

from benchmarks.environment import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BASELINE = "49b72beb0b81"
"""What is compared with if nothing else is asked for. Set it to a later commit when something got faster for good, or
slower for a reason: from then on, that is what must not get slower."""
TIMEOUT = 30.0  # seconds for git


class BaselineError(Exception):
    """There are no sources of that commit."""


def unpack(commit: str, folder: Path) -> Path:
    """Put lifepool's sources, as of a commit, into a folder.

    Args:
        commit: Anything that git knows a commit by.
        folder: An empty one.

    Returns:
        The folder to import lifepool from.

    Raises:
        BaselineError: If git does not know the commit, or is not there.
    """
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, "--", "src/lifepool"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT).stdout
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise BaselineError(
            f"git has no sources of {commit} ({said}); in a shallow clone, run: git fetch --unshallow"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BaselineError(f"the sources of {commit} are taken from git, which failed: {error}") from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
        content.extractall(folder, filter="data")
    return folder / "src"
