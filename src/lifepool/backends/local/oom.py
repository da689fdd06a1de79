"""Was it the kernel's out-of-memory killer? A SIGKILL alone doesn't tell."""

from __future__ import annotations

#: Linux counts the OOM killer's victims here, of this host and all its containers.
_VMSTAT = "/proc/vmstat"


class OomWatch:
    """Compares the kernel's count of victims with the last look at it."""

    def __init__(self, path: str = _VMSTAT) -> None:
        self._path = path
        self._seen = self._count()

    def happened(self) -> bool:
        """Whether there were victims since the last call. False where the kernel does not say."""
        before, self._seen = self._seen, self._count()
        return self._seen > before

    def _count(self) -> int:
        try:
            with open(self._path, "rb") as lines:
                return next((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), 0)
        except (OSError, ValueError, IndexError):
            return 0
