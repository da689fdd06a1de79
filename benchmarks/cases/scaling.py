"""No-ops over more and more workers: what does the pool itself cost with many of them?"""

from benchmarks.cases.base import Case, Metric
from benchmarks.cases.calls import FULL, QUICK, measure_throughput
from lifepool.cli.bench.contenders import LIFEPOOL, POOLS, REQUIRES, STANDARD

IN_FLIGHT = 128
"""Two for each of the most workers."""


def workers_case(workers: int) -> Case:
    """Return the case of so many workers, however many CPUs there are."""
    return Case(
        name=f"workers-{workers}",
        title=f"no-op throughput, {IN_FLIGHT} in flight, {workers} workers",
        metrics=(Metric("rate", "tasks/s", "higher"),),
        contenders=POOLS,
        quick_contenders=(LIFEPOOL, STANDARD),
        measure=measure_throughput,
        full={**FULL, "in_flight": IN_FLIGHT, "workers": workers},
        quick={**QUICK, "in_flight": IN_FLIGHT, "workers": min(workers, 4)},
        requires=REQUIRES,
        rounds=3,
        timeout=90.0,  # 64 new interpreters take a while
    )
