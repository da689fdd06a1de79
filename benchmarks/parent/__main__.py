"""Where do the microseconds of a task go in the server process?

``python -m benchmarks.parent`` takes about half a minute, prints a table for each event loop, and writes it with its
JSON to ``results/parent.md`` and ``.json`` (``--name``). ``--before FILE`` shows an earlier run
beside it: run it on the old commit with ``--name before``, and keep that file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import environment
from benchmarks.parent import system_calls
from benchmarks.parent.report import markdown_page
from benchmarks.parent.server import Run, measure
from benchmarks.parent.stopwatch import calibrate
from benchmarks.sizing import available_cpus

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent.parent / "results"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parent", description=__doc__.partition("\n")[0])
    parser.add_argument("--loop", action="append", choices=("asyncio", "uvloop"), help="default: both")
    parser.add_argument("--in-flight", type=int, action="append", help="tasks at a time; default: 1 and 64")
    parser.add_argument("--workers", type=int, default=available_cpus())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=float, default=0.5, help="seconds of one measurement")
    parser.add_argument("--no-pin", action="store_true", help="let the kernel choose the CPUs")
    parser.add_argument("--no-strace", action="store_true", help="don't count system calls")
    parser.add_argument("--before", type=Path, help="an earlier result (JSON), to be shown beside this one")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--name", default="parent")
    return parser.parse_args(arguments)


def measure_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each event loop and number of tasks: with and without the stopwatch in turn, round after round."""
    overhead = calibrate()
    results = []
    for loop in options.loop or ("asyncio", "uvloop"):
        for in_flight in options.in_flight or (1, 64):
            run = Run(loop, in_flight, options.workers, options.duration, pin=not options.no_pin)
            rounds = [(measure(run, timed=False), measure(run, timed=True)) for _ in range(options.rounds)]
            result = run.summarise(rounds, overhead)
            result["system calls"] = {} if options.no_strace else system_calls.per_task(run)
            results.append(result)
            print(f"{loop}, {in_flight} in flight: {result['total_us']:.1f} µs of CPU a task", file=sys.stderr)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = parse(arguments)
    before = json.loads(options.before.read_text(encoding="utf-8")) if options.before else None
    result = {"environment": environment.describe(), "runs": measure_all(options)}
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / f"{options.name}.json"
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = markdown_page(result, before)
    target.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
