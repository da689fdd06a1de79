"""Find out whether the kernel's out-of-memory killer ended a process: a SIGKILL does not say, the kernel's count does.

Linux counts them by control group; where ours has no count (no container, no systemd), by host. A count tells nothing
about a single worker, so only victims of the last seconds are taken for its cause, and each for one worker alone:
what was killed long ago, or is counted elsewhere, does not make the next ``kill -9`` look like it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lifepool._host.cgroups import Files, lineage

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

#: Seconds between two looks at the count. A victim is remembered for one to two of these: the kernel counts it before
#: it kills it, and a process with much memory may take seconds to be gone.
LOOK_EVERY_S = 5.0

#: Where the host counts, with all its containers.
_VMSTAT = PurePosixPath("/proc/vmstat")


class OomWatch:
    """Compare the kernel's count of victims with what it was a few seconds ago.

    Args:
        root: Where ``/proc`` and the control groups are looked up.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._files = Files(root, [])
        self._source = next((path for path in _sources(self._files) if self._count(path) is not None), None)
        self._last = self._explained = self._victims()
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the count every few seconds, until ``stop``; without a count there is nothing to do."""
        if self._source is not None:
            self.look()
            self._timer = loop.call_later(LOOK_EVERY_S, self.follow, loop)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Look again, after some seconds: whom the kernel had killed before the last look, it did not kill just now."""
        self._explained = max(self._explained, self._last)
        self._last = self._victims()
        self._files.ignored.clear()  # nobody reads here what could not be read

    def happened(self) -> bool:
        """Return whether there is a recent victim that was not taken for another worker; take it for this one."""
        if self._victims() <= self._explained:
            return False
        self._explained += 1
        return True

    def _victims(self) -> int:
        return (self._count(self._source) or 0) if self._source is not None else 0

    def _count(self, path: PurePosixPath) -> int | None:
        for line in (self._files.read(path) or "").splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill" and number.isdigit():
                return int(number)
        return None


def _sources(files: Files) -> Iterator[PurePosixPath]:
    """Yield where the victims of our own control group may be counted, and the host's as the last."""
    own_of_version_1 = True
    for version, directory in lineage(files, "memory"):
        if version == 2:
            yield directory / "memory.events"
        elif own_of_version_1:  # an ancestor's count does not hold its children's there
            own_of_version_1 = False
            yield directory / "memory.oom_control"
    yield _VMSTAT
