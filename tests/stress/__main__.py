"""Random faults against a pool (``python -m tests.stress``), or a very long sequence of tasks (``... million``)."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from typing import Any

from tests.loops import FACTORIES
from tests.stress.million import Sequence, million
from tests.stress.run import Plan, stress


def main() -> int:
    """Run, print figures and a line of JSON; return 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("mode", nargs="?", choices=("faults", "million"), default="faults")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--fault-every", type=float, default=1.0, help="mean seconds between two faults from outside")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="of the long sequence")
    parser.add_argument("--in-flight", type=int, default=64, help="of the long sequence; 1: one after another")
    parser.add_argument("--loop", choices=list(FACTORIES), default="asyncio")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with asyncio.Runner(loop_factory=FACTORIES[options.loop]) as runner:
        if options.mode == "million":
            sequence = Sequence(options.tasks, options.in_flight, options.workers or 2)
            report = runner.run(million(sequence))
        else:
            plan = Plan(options.minutes * 60, options.seed, options.workers or 4, fault_every_s=options.fault_every)
            report = runner.run(stress(plan))
    show(report)
    return 1 if report["wrong"] or report["hung"] or report["leaked"] else 0


def show(report: dict[str, Any]) -> None:
    """Print a report for people, then as one line of JSON."""
    for name, value in report.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {number:,}" for key, number in value.items())
        elif isinstance(value, list) and value and isinstance(value[0], int):
            value = f"{value[0]:,} at first, then {min(value[1:]):,} to {max(value[1:]):,}, {value[-1]:,} at the end"
        elif isinstance(value, list):
            value = "".join(f"\n    {line}" for line in value)
        elif isinstance(value, int):
            value = value if name == "seed" else f"{value:,}"
        print(f"{name.replace('_', ' ')}: {value}")
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    sys.exit(main())
