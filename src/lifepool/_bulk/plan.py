"""How the items of one ``map`` or ``gather`` are to be treated: its arguments, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lifepool._bulk.chunks import MAX_CHUNK, ChunkSizer
from lifepool._engine.options import task_options
from lifepool.progress import check_hook

if TYPE_CHECKING:
    from lifepool._engine.options import TaskOptions
    from lifepool.progress import ProgressHook

OnFull = Literal["wait", "raise"]

#: Chunks under way for each worker: one runs, one waits behind it, and two more hide the consumer's own pauses.
CHUNKS_PER_WORKER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPlan:
    """How the items of one call are to be treated.

    Attributes:
        sizer: Gives the size of each chunk.
        window: Chunks under way at most.
        ordered: Whether results come in the order of the items.
        go_on: Whether an item's exception is its result.
        is_whole: Whether the timeout is that of the whole call, or of each chunk.
        waits: Whether a call that finds the queue full at its beginning waits for room, or is refused.
        options: Of each chunk; the timeout, if ``is_whole``, of the whole call.
        on_progress: Is called with how far it is, or None.
    """

    sizer: ChunkSizer
    window: int
    ordered: bool
    go_on: bool
    is_whole: bool
    waits: bool
    options: TaskOptions
    on_progress: ProgressHook | None

    @property
    def timeout(self) -> float | None:
        """Return the seconds that a chunk or the whole call may take, or None for no limit."""
        return self.options.timeout


def plan_bulk(
    default: TaskOptions,
    workers: int,
    *,
    on_full: OnFull,
    chunksize: int | Literal["auto"],
    buffer: int | None = None,
    ordered: bool = True,
    go_on: bool = False,
    is_whole: bool = False,
    timeout: float | None,
    retries: int,
    priority: int,
    on_progress: ProgressHook | None,
) -> BulkPlan:
    """Check the arguments of a call, and decide how large chunks may be and how many may be under way.

    Args:
        default: The pool's task options.
        workers: The pool's.
        on_full: As for ``Pool.map``, like ``chunksize``, ``buffer``, ``ordered``, ``retries`` and ``priority``.
        chunksize: See there.
        buffer: See there.
        ordered: See there.
        go_on: Whether an item's exception is its result.
        is_whole: Whether the timeout is that of the whole call.
        timeout: Seconds; None for the pool's.
        retries: See there.
        priority: See there.
        on_progress: See there.

    Raises:
        ValueError: If an argument makes no sense.
        TypeError: If ``on_progress`` is no plain function.
    """
    sizer, window = bulk_size(chunksize, buffer, workers)
    if on_full not in ("wait", "raise"):
        raise ValueError(f"on_full={on_full!r}: expected 'wait' or 'raise'")
    options = task_options(default, timeout=timeout, retries=retries, priority=priority)
    check_hook(on_progress)
    return BulkPlan(
        sizer=sizer,
        window=window,
        ordered=ordered,
        go_on=go_on,
        is_whole=is_whole,
        waits=on_full == "wait",
        options=options,
        on_progress=on_progress,
    )


def bulk_size(chunksize: int | Literal["auto"], buffer: int | None, workers: int) -> tuple[ChunkSizer, int]:
    """Decide how large chunks may be, and how many may be under way.

    Raises:
        ValueError: If either argument makes no sense.
    """
    if chunksize != "auto" and not _is_count(chunksize):
        raise ValueError(f"chunksize={chunksize!r}: expected 'auto' or a whole number >= 1")
    if buffer is not None and not _is_count(buffer):
        raise ValueError(f"buffer={buffer!r}: expected None or a whole number >= 1")
    window = CHUNKS_PER_WORKER * workers
    if buffer is None:
        most = MAX_CHUNK
    else:
        window = min(window, buffer)
        most = buffer // window
    return ChunkSizer(None if chunksize == "auto" else chunksize, most), window


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1
