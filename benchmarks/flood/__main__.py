"""Flood the service: ``python -m benchmarks.flood`` prints how much is answered in time at multiples of the capacity.

For each server, text size and factor: a new server, its capacity in a closed loop, and seconds later an open loop at
that multiple of it, for ``--seconds`` with ten seconds for the last answers. So what a machine can do may change from
minute to minute, and what an overload leaves behind is not counted twice. The server may use all CPUs. The generator is
pinned to the last one and shares it with the server's workers: its part and how late it was are in the table.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.flood.generator import Plan
from benchmarks.flood.servers import PROTECTED, REFUSES_ALL, VARIANTS
from benchmarks.texts import make_texts
from lifepool.cli.processes import end_leader

IN_TIME_S = 1.0
CALLERS = 8
PATIENCE_S = 10.0
WARM_UP_S, CAPACITY_S = 2.0, 4.0
CALM_S = 3.0  # between two steps, and before the memory is read at the end
START_BOUND_S = 30.0
MIB = 1 << 20
MIXED = "mixed"
FLOOR_RATE = 400.0  # requests a second that count as the capacity of what refuses all
COLUMNS = (
    "server",
    "texts",
    "load",
    "capacity/s",
    "sent/s",
    "in time/s",
    "of capacity",
    "p50",
    "p99",
    "refused p99",
    "`/health` p99",
    "server CPU",
    "generator CPU, late",
    "RSS",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


@dataclass(frozen=True)
class Server:
    """A server that was started: its port and its process."""

    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """Return the CPU time of the server's process, without its workers."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> float:
        """Return the resident memory of the server's process in MiB."""
        return float(self.process.memory_info().rss / MIB)


def make_bodies(texts: str) -> list[str]:
    """Return JSON bodies with texts of so many bytes, or of 2, 20 and 200 kB in a proportion of 6 to 3 to 1."""
    if texts == MIXED:
        made = make_texts(6, 2_000) + make_texts(3, 20_000) + make_texts(1, 200_000)
    else:
        made = make_texts(8, int(texts))
    return [json.dumps({"data": text}) for text in made]


@contextmanager
def serving(variant: str, arguments: Sequence[str]) -> Iterator[Server]:
    """Start a server in a process group of its own, and end the group."""
    command = [sys.executable, "-m", "benchmarks.flood.servers", "--variant", variant, *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        port = int(process.stdout.readline())
        process.stdout.close()
        yield Server(port, psutil.Process(process.pid))
    finally:
        process.stdin.close()
        end_leader(process, START_BOUND_S)


def play(plan: Plan) -> dict[str, Any]:
    """Run the generator in a process of its own; it ends by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.flood.generator"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        timeout=plan.duration + plan.patience + START_BOUND_S,
        check=True,
    )
    return dict(json.loads(done.stdout))


def quantile(values: Sequence[float], share: float) -> str:
    """Return a quantile of seconds as milliseconds; nothing of none."""
    ordered = sorted(values)
    return f"{ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3:.0f} ms" if ordered else ""


@dataclass(frozen=True)
class Step:
    """What was measured of a server in one step.

    Attributes:
        load: its name.
        capacity: of the server, in answers a second.
        report: the generator's.
        cpu: CPU seconds of the server process a second.
        rss: MiB of the server process, before and after.
    """

    load: str
    capacity: float
    report: dict[str, Any]
    cpu: float
    rss: tuple[float, float]

    def row(self, variant: str, texts: str) -> str:
        """Return a row of the table."""
        report = self.report
        in_time = sum(latency <= IN_TIME_S for latency in report["good"]) / report["seconds"]
        cells = [
            variant, texts, self.load, f"{self.capacity:.0f}",
            f"{report['sent'] / report['seconds']:.0f}", f"{in_time:.0f}", f"{100 * in_time / self.capacity:.0f} %",
            quantile(report['good'], 0.5), quantile(report['good'], 0.99),
            quantile(report['refused'], 0.99), quantile(report['health'], 0.99),
            f"{self.cpu:.2f}", f"{report['cpu']:.2f}, {1e3 * report['late_p99']:.0f} ms",
            f"{self.rss[0]:.0f} to {self.rss[1]:.0f} MiB",
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def measure(server: Server, load: str, capacity: float, plan: Plan) -> Step:
    """Measure one step."""
    cpu, rss = server.cpu_s(), server.rss()
    report = play(plan)
    print(load, report["answers"], file=sys.stderr, flush=True)
    return Step(load, capacity, report, (server.cpu_s() - cpu) / report["seconds"], (rss, server.rss()))


def flood(variant: str, texts: str, factors: Sequence[float], options: argparse.Namespace) -> Iterator[str]:
    """Measure one server with one size of texts; yield the rows."""
    last_cpu = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else -1
    plan = Plan(0, make_bodies(texts), cpu=last_cpu, patience=PATIENCE_S, callers=CALLERS)
    calm = min(CALM_S, options.seconds)
    for factor in factors:
        with serving(variant, options.server_arguments) as server:
            closed = replace(plan, port=server.port, duration=min(CAPACITY_S, options.seconds))
            play(replace(closed, duration=min(WARM_UP_S, options.seconds)))
            capacity = FLOOR_RATE
            if variant != REFUSES_ALL:
                report = play(closed)
                capacity = len(report["good"]) / report["seconds"]
            steps = [(f"{factor:g}x", factor, options.seconds)]
            if factor == factors[-1]:
                steps.append(("0.2x after", 0.2, calm))
            for load, times, seconds in steps:
                time.sleep(calm)
                open_loop = replace(closed, duration=seconds, rate=times * capacity)
                yield measure(server, load, capacity, open_loop).row(variant, texts)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", action="append", choices=VARIANTS, help="again for another; without: protected")
    parser.add_argument("--texts", action="append", help=f"bytes of a text, or {MIXED}; again for another")
    parser.add_argument("--factors", default="0.5,1,2,5,10")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--output", type=Path, help="a file that the table is added to as well")
    parser.add_argument("server_arguments", nargs="*", help="after --: for the server, such as --loop uvloop")
    options = parser.parse_args()
    factors = [float(each) for each in options.factors.split(",")]
    lines = [HEAD]
    print(HEAD, flush=True)
    for texts in options.texts or ["20000"]:
        for variant in options.server or [PROTECTED]:
            for line in flood(variant, texts, factors, options):
                print(line, flush=True)
                lines.append(line)
    if options.output is not None:
        with options.output.open("a") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
