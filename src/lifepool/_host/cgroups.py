"""Find and read the files of the control groups that this process is in (Linux), without ever raising.

Knows version 1 and 2, namespaces, and paths that are seen from a container; what the files say is for others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Files", "lineage"]


@dataclass(frozen=True, slots=True)
class Files:
    """Read files below `root`, and notes in `ignored` what it could not use."""

    root: Path
    ignored: list[str]

    def read(self, path: PurePosixPath) -> str | None:
        """Return a file's text without the white space around it; None if there is no such file."""
        try:
            text = (self.root / path.relative_to("/")).read_text("utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None  # a controller that is not enabled here, or no Linux: nothing to report
        except (OSError, ValueError) as error:
            self.ignored.append(f"unreadable {path} ({type(error).__name__})")
            return None
        return text.strip()


def lineage(files: Files, controller: str) -> Iterator[tuple[int, PurePosixPath]]:
    """Yield the directories of this process's own cgroup and of its ancestors, with the version of their hierarchy.

    Args:
        files: Where `/proc` and the mounts are looked up.
        controller: `cpu`, `memory` or `pids`.
    """
    own = _own_cgroups(files.read(PurePosixPath("/proc/self/cgroup")) or "", controller)
    for mount in _mounts(files.read(PurePosixPath("/proc/self/mountinfo")) or "", controller):
        for directory in mount.lineage(own.get(mount.version, "/")):
            yield mount.version, directory


@dataclass(frozen=True, slots=True)
class _Mount:
    """One mounted hierarchy: `root` is the cgroup that is visible at `point`."""

    version: int
    root: PurePosixPath
    point: PurePosixPath

    def lineage(self, own: str) -> Iterator[PurePosixPath]:
        """Yield the directories of the cgroup `own` and of its ancestors, up to the mount point."""
        path = PurePosixPath(own)
        inside = path.is_relative_to(self.root) and ".." not in path.parts
        # Outside the mount (a path of the host or of another namespace, seen from a container):
        # the root of the mount is all that can be seen.
        below = path.relative_to(self.root) if inside else PurePosixPath()
        for directory in (below, *below.parents):
            yield self.point / directory


def _own_cgroups(text: str, controller: str) -> dict[int, str]:
    """Return this process's cgroup by version, from lines of `id:controllers:path`."""
    own = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if line.startswith("0::"):
            own[2] = path
        elif controller in controllers.split(","):
            own[1] = path
    return own


def _mounts(text: str, controller: str) -> Iterator[_Mount]:
    """Yield the mounts that may have the controller, from `/proc/self/mountinfo` (see proc(5))."""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        match left.split(" "), right.split(" "):
            case [_, _, _, root, point, *_], ["cgroup2", *_]:
                yield _Mount(2, _unescaped(root), _unescaped(point))
            case [_, _, _, root, point, *_], ["cgroup", _, options] if controller in options.split(","):
                yield _Mount(1, _unescaped(root), _unescaped(point))


def _unescaped(path: str) -> PurePosixPath:
    """Undo the kernel's octal escapes for white space in `/proc/self/mountinfo`."""
    return PurePosixPath("/", re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path))
