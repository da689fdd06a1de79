"""Results as they lie in the store: read all at once, or piece by piece in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifepool.jobs.errors import JobNotFound
from lifepool.jobs.large import LARGE, in_thread_if
from lifepool.jobs.sealing import MAX_HEADER
from lifepool.jobs.store.parts import PART_BYTES
from lifepool.jobs.values import decode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lifepool.jobs.records import Job
    from lifepool.jobs.sealing import Header, Sealer
    from lifepool.jobs.store.store import Store

#: What a client gets without anything being decoded, by encoding.
_MEDIA_TYPES = {"B": "application/octet-stream", "T": "application/json"}


async def decoded(job: Job, frame: bytes, sealer: Sealer) -> Any:
    """Return the result in a frame.

    Raises:
        JobNotCallable: If it can't be read here.
    """

    def read() -> Any:
        return decode(*sealer.open("result", job.id, job.function, frame))

    return await in_thread_if(len(frame) > LARGE, read)


class StoredResult:
    """The result of a job that has succeeded, in the store. It is read in pieces of at most 256 KiB.

    Attributes:
        media_type: Of its bytes, if a client can have them as they are: those of ``bytes``, and JSON text of a result
            that has JSON's own types alone. None: it has to be decoded first, which ``Jobs.get`` does.
        size: Its bytes.
    """

    def __init__(self, store: Store, job: Job, header: Header) -> None:
        self._store = store
        self._job = job
        self._before = header.size
        self.media_type: str | None = _MEDIA_TYPES.get(header.encoding)
        self.size: int = (job.result_size or 0) - header.size

    async def chunks(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` to before ``stop``, each piece when it is asked for.

        Raises:
            JobNotFound: If the job has expired meanwhile.
            StoreError: If the store can't be used.
        """
        at = self._before + start
        end = self._before + (self.size if stop is None else min(stop, self.size))
        while at < end:
            number, offset = divmod(at, PART_BYTES)
            part = await self._store.result_part(self._job.id, number)
            piece = part[offset : offset + end - at]
            if not piece:  # less is stored than the job says: never pass that off as the whole
                raise JobNotFound(self._job.id)
            at += len(piece)
            yield piece


async def open_result(store: Store, job: Job, sealer: Sealer) -> StoredResult:
    """Find the result of a job that has succeeded, and check its signature, if there is a secret, from end to end.

    Raises:
        JobNotFound: If the job has expired meanwhile.
        JobNotCallable: If the result was not signed with this secret, or is of another version.
        StoreError: If the store can't be used.
    """
    start = await store.result_part(job.id, 0)
    header = sealer.read_header("result", start[:MAX_HEADER])
    result = StoredResult(store, job, header)
    check = sealer.checking("result", job.id, job.function, header)
    if check is not None and result.media_type is not None:  # else it is checked when it is decoded
        async for piece in result.chunks():
            check.update(piece)
        check.finish()
    return result
