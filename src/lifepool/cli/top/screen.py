"""Keep the screen up to date until Ctrl-C."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.live import Live

from lifepool.cli.top.source import Source, Unreachable
from lifepool.cli.top.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


def once(source: Source, console: Console) -> None:
    """Print one screen.

    Raises:
        NoPage: If there is none.
    """
    view, state = View(), source.read()
    view.take(state)
    console.print(view.draw(state, console.width, max(console.height, 24) if console.is_terminal else 60))


def watch(source: Source, console: Console, interval: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Draw until the user has seen enough. A server that goes away is waited for.

    Raises:
        NoPage: If there is none at first, or something else has replaced it.
        KeyboardInterrupt: On Ctrl-C.
    """
    view, state = View(), source.read()
    with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
        trouble = ""
        while True:
            if not trouble:
                view.take(state)
            live.update(view.draw(state, console.width, console.height, trouble), refresh=True)
            sleep(interval)
            try:
                state, trouble = source.read(), ""
            except Unreachable:
                trouble = "disconnected: the server does not answer"
