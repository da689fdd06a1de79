"""Show people how far a ``map`` or ``gather`` is: what a progress hook gets, and hooks that draw a bar.

``on_progress`` takes any function of a ``MapProgress``; ``tqdm_progress`` and ``rich_progress`` make some.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifepool._usercode.display import shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass(frozen=True, slots=True)
class MapProgress:
    """How far a map is, at one moment.

    Attributes:
        done: Items that have run, failed ones included.
        total: Items there are, or None if that is not known: the iterable has no length.
        failed: Items that raised, or whose chunk was lost or took too long.
        elapsed_s: Seconds since the map began.
        rate: Items a second, so far.
        finished: Whether this is the last report, also when the map was left early or has failed.
    """

    done: int
    total: int | None
    failed: int
    elapsed_s: float
    rate: float
    finished: bool = False


ProgressHook = Callable[[MapProgress], object]


def check_hook(hook: object) -> None:
    """Refuse what can't be a progress hook.

    Raises:
        TypeError: If it is no plain function.
    """
    if hook is None:
        return
    if not callable(hook) or any(map(inspect.iscoroutinefunction, (hook, type(hook).__call__))):
        raise TypeError(f"on_progress={shown(hook)}: expected a plain function of one argument, a MapProgress")


def tqdm_progress(description: str | None = None, **options: Any) -> ProgressHook:
    """Return a hook that draws a bar with tqdm; it may be used for one map after another.

    Args:
        description: Stands before the bar.
        **options: Go to ``tqdm.tqdm``: ``unit``, ``leave``, ``file``, and so on.

    Raises:
        ImportError: If tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("lifepool.progress.tqdm_progress needs tqdm: pip install 'lifepool[progress]'") from error

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # tqdm's thread redraws bars that nobody updates; ours are updated from the loop

    return _TqdmBar(lambda total: Bar(total=total, desc=description, **options))


class _TqdmBar:
    def __init__(self, make: Callable[[int | None], Any]) -> None:
        self._make = make
        self._bar: Any = None

    def __call__(self, progress: MapProgress) -> None:
        if self._bar is None:
            self._bar = self._make(progress.total)
        bar = self._bar
        if progress.failed:
            bar.set_postfix(failed=progress.failed, refresh=False)
        bar.update(progress.done - bar.n)
        if progress.finished:
            self._bar = None
            bar.close()


def rich_progress(description: str = "working", *, progress: Progress | None = None) -> ProgressHook:
    """Return a hook that draws a bar with rich; it may be used for one map after another.

    Args:
        description: Stands before the bar.
        progress: A display of your own that the bar is added to; you start and stop it. None: one of its own.

    Raises:
        ImportError: If rich is not installed.
    """
    try:
        from rich.progress import Progress
    except ImportError as error:
        raise ImportError("lifepool.progress.rich_progress needs rich: pip install 'lifepool[progress]'") from error

    # Without its refreshing thread: the hook draws it, from the loop.
    return _RichBar(description, (lambda: Progress(auto_refresh=False)) if progress is None else (lambda: progress))


class _RichBar:
    def __init__(self, description: str, display: Callable[[], Progress]) -> None:
        self._description = description
        self._display = display
        self._bar: tuple[Progress, TaskID, bool] | None = None

    def __call__(self, progress: MapProgress) -> None:
        if self._bar is None:
            display = self._display()
            is_own = not display.live.is_started
            if is_own:
                display.start()
            self._bar = (display, display.add_task(self._description, total=progress.total), is_own)
        display, task, is_own = self._bar
        display.update(task, completed=progress.done, refresh=True)
        if progress.finished:
            self._bar = None
            if is_own:
                display.stop()
