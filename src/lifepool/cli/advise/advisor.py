"""Measure a named function, and give advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifepool.cli.advise.judgement import BreakEven, Mapped, Measurement, Verdict, judge
from lifepool.cli.advise.measure import measure
from lifepool.cli.isolation import run_isolated
from lifepool.cli.summary import Spread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lifepool.cli.advise.arguments import Arguments

START_BOUND_S = 60.0
"""For the import of the function's module, here and in a worker, beside the budget for measuring."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What was measured, and what follows.

    Attributes:
        target: The function.
        measurements: By size, the smallest first; one if the arguments do not depend on a size.
        verdicts: One for each measurement.
        break_even: From which size on it pays; None if there was one size only.
        too_slow: The first size, or True, at which a call took more than the time there was. It was ended.
        error: Why nothing could be measured.
        hint: What to do about that.
    """

    target: str
    measurements: tuple[Measurement, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    break_even: BreakEven | None = None
    too_slow: int | bool | None = None
    error: str | None = None
    hint: str | None = None

    @property
    def exit_code(self) -> int:
        """Return 1 if there is no advice, else 0."""
        return 1 if self.error else 0


def advise(
    target: str,
    arguments: Arguments,
    *,
    sizes: Sequence[int] | None = None,
    repeat: int | None = None,
    budget: float = 10.0,
    cwd: Path | None = None,
) -> Advice:
    """Measure a function, in a process of its own.

    Args:
        target: ``module:function``.
        arguments: What it is called with.
        sizes: The sizes for arguments that depend on ``n``.
        repeat: Calls of each kind at each size; None: as many as the budget allows.
        budget: Seconds for measuring.
        cwd: The folder to import from; None: the current one.
    """
    request = {
        "target": target,
        "positional": arguments.positional,
        "keywords": arguments.keywords,
        "sizes": list(sizes) if sizes else None,
        "repeat": repeat,
        "budget": budget,
    }
    outcome = run_isolated(measure, request, budget + START_BOUND_S, cwd)
    if outcome.timed_out:
        hint = "give more time with --budget, or look whether the module waits when it is imported"
        return Advice(target, error=f"nothing came of it in {budget + START_BOUND_S:g} s", hint=hint)
    if outcome.error is not None:
        return Advice(target, error=outcome.error, hint="the process died: run it in a pool, never inline")
    return _advice(target, outcome.answer)


def _advice(target: str, answer: dict[str, Any]) -> Advice:
    if "error" in answer:
        return Advice(target, error=answer["error"], hint=answer["hint"])
    measured = tuple(_measurement(each) for each in answer["measurements"])
    found = answer["break_even"]
    return Advice(
        target,
        measured,
        tuple(map(judge, measured)),
        BreakEven(**found) if found else None,
        answer["too_slow"],
    )


def _measurement(fields: dict[str, Any]) -> Measurement:
    inline, pooled, mapped = Spread(**fields["inline"]), Spread(**fields["pooled"]), fields["mapped"]
    return Measurement(**{**fields, "inline": inline, "pooled": pooled, "mapped": mapped and Mapped(**mapped)})
