"""Say what the source of a project tells about its pools, before anything of it is imported."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lifepool.cli.check.inventory import read_text
from lifepool.cli.check.rules import RULES
from lifepool.cli.doctor.findings import Finding, fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lifepool.cli.check.checker import Report
    from lifepool.cli.check.inventory import App, Inventory, Item

#: Apps that are imported and tried; a project that has more is asked to name one.
MOST_APPS = 5
#: Errors that are shown one by one.
_MOST_ERRORS = 10


def check_source(report: Report, inventory: Inventory, folder: Path) -> Iterator[Finding]:
    """Report apps, pools, and what `lifepool check` finds.

    Args:
        report: Of `lifepool check`.
        inventory: Of the same project.
        folder: Where it is; paths are shown from there.
    """
    yield ok("source", read_text(report.files))
    yield from _apps(inventory.apps)
    yield _pools(inventory.pools)
    yield from _rules(report, inventory, folder)


def _apps(apps: Sequence[App]) -> Iterator[Finding]:
    tried = [app.name for app in apps if app.has_lifepool]
    others = [app.name for app in apps if not app.has_lifepool]
    if not apps:
        fix = "name it, as in lifepool doctor main:app: only FastAPI and Starlette apps are known, kept in a global"
        yield warn("apps", "no app was found", fix)
    if len(tried) > MOST_APPS:
        seen = f"{len(tried)} use lifepool; not tried: {', '.join(tried[MOST_APPS:])}"
        yield warn("apps", seen, "name one, as in lifepool doctor main:app")
    elif tried:
        yield ok("apps", ", ".join(tried))
    if others:
        yield ok("other apps", f"not tried, they do not use lifepool: {', '.join(others)}")


def _pools(pools: Sequence[Item]) -> Finding:
    if not pools:
        return warn(
            "pools", "no module keeps a lifepool.Pool in a global", "see `lifepool advise .` for what to offload"
        )
    return ok("pools", ", ".join(f"{pool.name} ({pool.path}:{pool.line})" for pool in pools))


def _rules(report: Report, inventory: Inventory, folder: Path) -> Iterator[Finding]:
    """Report what fails or hangs in code that is served one by one, and count the rest."""
    errors = [each for each in report.findings if RULES[each.code].level == "error" and inventory.serves(each.path)]
    for each in errors[:_MOST_ERRORS]:
        path = each.path.relative_to(folder) if each.path.is_relative_to(folder) else each.path
        yield fail(each.code, f"{path.as_posix()}:{each.location.line}: {each.message}", RULES[each.code].fix)
    others = Counter(RULES[finding.code].level for finding in report.findings)
    others["error"] -= len(errors[:_MOST_ERRORS])
    if counted := " and ".join(f"{count} {level}{'s' * (count > 1)}" for level, count in others.items() if count):
        yield warn("check", f"{counted}{' more' if errors else ''}", f"lifepool check {folder} shows them")
    elif not errors:
        yield ok("check", "nothing was found")
