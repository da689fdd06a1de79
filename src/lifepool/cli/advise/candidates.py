"""List the functions of a project that are worth measuring, each with the command that does it. Nothing is run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from lifepool.cli.check.command import read
from lifepool.cli.check.inventory import Inventory, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from lifepool.cli.check.inventory import Candidate


@dataclass(frozen=True, slots=True)
class ToMeasure:
    """A function, and how to measure it.

    Attributes:
        target: ``module:function``.
        place: Its file and line.
        why: What the project does with it.
        folder: Where the command is to be run.
        command: The command; a part in capitals is for the user to fill in.
    """

    target: str
    place: str
    why: str
    folder: str
    command: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """The functions of a project.

    Attributes:
        files: How many files were read.
        functions: In order of file and line.
    """

    files: int
    functions: tuple[ToMeasure, ...]


def candidates_of(folder: Path) -> Candidates:
    """Read a project; find what it sends to workers, and what computes on its event loop.

    Raises:
        WrongUsage: If the settings in pyproject.toml make no sense.
    """
    reading = read(folder)
    found = Inventory(reading.project, folder).candidates
    return Candidates(reading.report.files, tuple(map(_to_measure, found)))


def _to_measure(function: Candidate) -> ToMeasure:
    command = f"lifepool advise {function.name}"
    if function.parameters:
        arguments = function.arguments or ", ".join(name.upper() for name in function.parameters)
        command += f' --args "{arguments}"'  # Python expressions with no quotes but single ones
    return ToMeasure(function.name, f"{function.path}:{function.line}", function.why, str(function.folder), command)


def render(found: Candidates, console: Console) -> None:
    """Print the functions, and the commands."""
    if not found.functions:
        console.print(f"{read_text(found.files)}: no function is sent to a pool, or computes on the event loop")
        return
    console.print(f"{read_text(found.files)}; measure, in {found.functions[0].folder}:", soft_wrap=True)
    for each in found.functions:
        console.print(Text(each.target, style="bold"), Text(f"({each.place}), {each.why}", style="dim"))
        folder = "" if each.folder == found.functions[0].folder else f"cd {shlex.quote(each.folder)} && "
        console.print(Text(f"  {folder}{each.command}"), soft_wrap=True)
