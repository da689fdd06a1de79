"""Check or explain, as the command line asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lifepool.cli.check.checker import Reading, check_files, read_and_check
from lifepool.cli.check.files import find_files
from lifepool.cli.check.formats import FORMATS, text
from lifepool.cli.check.rules import RULES
from lifepool.cli.check.settings import WrongUsage, check_code, load

if TYPE_CHECKING:
    from collections.abc import Sequence


def check(
    paths: Sequence[Path],
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    exclude: Sequence[str] = (),
    form: str = "text",
) -> tuple[str, bool]:
    """Check files and folders.

    Args:
        paths: What to check.
        select: Codes of the only rules to apply; empty: what pyproject.toml says, else all.
        ignore: Codes of rules to leave out; empty: what pyproject.toml says.
        exclude: Patterns of what to leave out; empty: what pyproject.toml says.
        form: A key of ``FORMATS``.

    Returns:
        The report as text, and whether nothing was found.

    Raises:
        WrongUsage: If something that was asked for does not exist.
    """
    for path in paths:
        if not path.exists():
            raise WrongUsage(f"there is no {path}")
    if form not in FORMATS:
        raise WrongUsage(f"there is no format {form!r}; there are {', '.join(FORMATS)}")
    settings = load(Path.cwd(), select=select, ignore=ignore, exclude=exclude)
    files = find_files(paths, settings.exclude, settings.root)
    report = check_files(files, settings.codes, [settings.root, *filter(Path.is_dir, paths)])
    return FORMATS[form](report), not report.findings


def read(folder: Path) -> Reading:
    """Read and check the project in a folder, with the settings of its pyproject.toml.

    Raises:
        WrongUsage: If the settings make no sense.
    """
    settings = load(folder, select=(), ignore=(), exclude=())
    files = find_files([folder], settings.exclude, settings.root)
    return read_and_check(files, settings.codes, [folder])


def explain(code: str) -> str:
    """Return what a rule is about.

    Raises:
        WrongUsage: If there is no such rule.
    """
    check_code(code.upper())
    return text.explain(RULES[code.upper()])
