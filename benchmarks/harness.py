"""Interleaved rounds: each runs every contender once, in an order that rotates."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cases.base import Case, Parameters
from benchmarks.environment import ROOT
from benchmarks.measure import measure_request
from lifepool.cli.isolation import run_isolated
from lifepool.cli.rounds import rotated


@dataclass(frozen=True)
class Sample:
    """One measurement, as it stands in the result file.

    Attributes:
        metrics: value by metric; empty when the measurement failed.
        left_over: processes that were still there after the contender had been closed.
        error: why there are no metrics.
    """

    case: str
    loop: str
    contender: str
    round: int
    metrics: dict[str, float]
    detail: dict[str, Any]
    left_over: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Plan:
    """One case on one event loop, with the contenders that are installed here.

    Attributes:
        first: number of the first round: how many rounds an earlier run has made.
    """

    case: Case
    loop: str
    contenders: tuple[str, ...]
    parameters: Parameters
    rounds: int
    first: int = 0


def run(plan: Plan, announce: Callable[[Sample], None]) -> Iterator[Sample]:
    """Measure every contender of a plan once a round.

    Args:
        plan: what to measure, and how often.
        announce: called with each sample as soon as it is there.
    """
    for index in range(plan.first, plan.first + plan.rounds):
        for contender in rotated(plan.contenders, index):
            sample = measure(plan, contender, index)
            announce(sample)
            yield sample


def measure(plan: Plan, contender: str, index: int) -> Sample:
    """Run one measurement in a process group of its own; a failure becomes part of the sample."""
    request = {
        "case": plan.case.name,
        "loop": plan.loop,
        "contender": contender,
        "parameters": plan.parameters,
    }
    outcome = run_isolated(measure_request, request, plan.case.timeout, cwd=ROOT)
    return Sample(
        plan.case.name,
        plan.loop,
        contender,
        index,
        outcome.answer.get("metrics", {}),
        outcome.answer.get("detail", {}),
        outcome.left_over,
        outcome.error,
    )


def to_json(environment: dict[str, object], plans: Sequence[Plan], samples: Sequence[Sample]) -> dict[str, Any]:
    """Return a run as it is written to its result file: what, where, and every sample."""
    return {
        "environment": environment,
        "plans": [
            {
                "case": plan.case.name,
                "title": plan.case.title,
                "loop": plan.loop,
                "rounds": plan.rounds,
                "contenders": plan.contenders,
                "parameters": dict(plan.parameters),
                "metrics": [asdict(metric) for metric in plan.case.metrics],
                "runs": [run_of(environment)],
            }
            for plan in plans
        ],
        "samples": [asdict(sample) for sample in samples],
    }


def to_text(result: Mapping[str, Any]) -> str:
    """Return a result as the text of its file, with a line for each sample."""
    rest = json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=1, ensure_ascii=False)
    samples = ",\n  ".join(json.dumps(sample, ensure_ascii=False) for sample in result["samples"])
    return f'{rest[:-2]},\n "samples": [\n  {samples}\n ]\n}}\n'


def read(path: Path) -> dict[str, Any] | None:
    """Return the content of a result file; None if there is none."""
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def run_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return when and with which code a run was made."""
    return {key: about.get(key) for key in ("date", "commit", "busy before, percent")}


def after(plan: Plan, earlier: Mapping[str, Any]) -> Plan:
    """Return the plan with its rounds numbered after those of the same case in an earlier result.

    Raises:
        ValueError: If the case had other parameters then: its figures can't be put together.
    """
    for old in earlier["plans"]:
        if (old["case"], old["loop"]) == (plan.case.name, plan.loop):
            if old["parameters"] != dict(plan.parameters):
                raise ValueError(f"{plan.case.name} had other parameters then; choose another --name for this run")
            return replace(plan, first=old["rounds"])
    return plan


def add_earlier_rounds(result: dict[str, Any], earlier: Mapping[str, Any]) -> None:
    """Put the rounds of an earlier result before those of the same cases in this one.

    A machine differs from one hour to the next. Rounds from several times show that, those of one run don't.
    """
    before = {(plan["case"], plan["loop"]): plan for plan in earlier["plans"]}
    for plan in result["plans"]:
        key = (plan["case"], plan["loop"])
        if (old := before.get(key)) is None:
            continue
        plan["contenders"] = list(dict.fromkeys([*old["contenders"], *plan["contenders"]]))
        plan["rounds"] += old["rounds"]
        plan["runs"] = [*old.get("runs", [run_of(old.get("made", earlier["environment"]))]), *plan["runs"]]
        kept = [sample for sample in earlier["samples"] if (sample["case"], sample["loop"]) == key]
        result["samples"] = [*kept, *result["samples"]]


def keep_other_cases(result: dict[str, Any], earlier: Mapping[str, Any]) -> None:
    """Add to a result what an earlier one has of cases that were not measured now, and when that was made."""
    measured = {(plan["case"], plan["loop"]) for plan in result["plans"]}
    for part in ("plans", "samples"):
        kept = [entry for entry in earlier[part] if (entry["case"], entry["loop"]) not in measured]
        result[part] = [*kept, *result[part]]
    about = {key: earlier["environment"][key] for key in ("date", "commit")}
    for plan in result["plans"]:
        if (plan["case"], plan["loop"]) not in measured:
            plan["made"] = plan.get("made", about)
