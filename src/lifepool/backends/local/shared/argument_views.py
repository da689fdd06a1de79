"""Views of arguments in shared memory (``copy=False``), and knowing when nobody has one any more.

Each task with views gets a map of its own. To close a map fails as long as anything has a buffer of it, however it came
by that: an array, a slice of one, a memoryview. So closing it is the question whether the memory may be written anew,
and the server does not do that before it was informed. What a C library has kept without saying so is unmapped under
it: it crashes, and never sees what is not its own.
"""

from __future__ import annotations

import gc
import mmap
import os

from lifepool._core.framing import FramingError
from lifepool._core.policy import KEPT_VIEWS_MOST
from lifepool._host.forks import at_fork
from lifepool.backends.local.shared.files import LOCATION


class Views:
    """The maps of one worker.

    Args:
        fd: The file of the arguments; kept open.
        most: Bytes that may be kept beyond their tasks.
    """

    def __init__(self, fd: int, most: int) -> None:
        self._fd = fd
        self._most = most
        self._maps: dict[int, mmap.mmap] = {}
        self._forked: set[int] = set()
        self._watches_forks = False
        os.set_inheritable(fd, False)

    def open(self, task: int, location: memoryview) -> memoryview:
        """Return a read-only view of the part that a frame names.

        Raises:
            FramingError: If that is no part of the file.
        """
        if not self._watches_forks:
            self._watches_forks = True
            at_fork(before=self._note_fork)
        try:
            start, length = LOCATION.unpack(location)
            memory = mmap.mmap(self._fd, length, prot=mmap.PROT_READ, offset=start)
        except Exception as error:
            raise FramingError(f"no arguments there: {error}") from error
        self._maps[task] = memory
        return memoryview(memory)

    def __len__(self) -> int:
        return len(self._maps)

    def released(self) -> list[int]:
        """Return the tasks of whose memory nothing is in use any more, since the last call."""
        if not self._maps:
            return []
        gone = self._close()
        if len(self._maps) > KEPT_VIEWS_MOST or sum(map(len, self._maps.values())) > self._most:
            gc.collect()  # perhaps it is only garbage that keeps them
            gone += self._close()
        return gone

    def _close(self) -> list[int]:
        gone = []
        for task, memory in list(self._maps.items()):
            if task in self._forked:
                continue
            try:
                memory.close()
            except BufferError:  # somebody has kept a view
                continue
            del self._maps[task]
            gone.append(task)
        return gone

    def _note_fork(self) -> None:
        """Never give these parts back: a child that was forked has the same maps, and may have them for longer."""
        self._forked.update(self._maps)
