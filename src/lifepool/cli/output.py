"""Print a subcommand's report: as JSON, or rendered for a terminal."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable


def show(report: Any, render: Callable[[Any, Console], None], *, as_json: bool) -> None:
    """Print a report.

    Args:
        report: A frozen dataclass.
        render: Prints it on a console. NO_COLOR and a narrow terminal are the console's business.
        as_json: Print all of it for programs instead.
    """
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False))  # noqa: T201 - that is the output
    else:
        render(report, Console(highlight=False, soft_wrap=False))
