"""Cases about the time before the first answer: cold start and import."""

import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks import tasks
from benchmarks.cases.base import Case, Metric, Outcome, Parameters
from lifepool.cli.bench.contenders import CONTENDERS, LIFEPOOL, REQUIRES, STANDARD, make_contender
from lifepool.cli.summary import Spread

MILLISECONDS = 1e3
IMPORT_BOUND = 30.0  # seconds for one interpreter to start and import; FastAPI takes about one


@dataclass(frozen=True)
class Import:
    """An import that is timed, and what is imported before the clock starts."""

    timed: str
    before: str = ""
    requires: tuple[str, ...] = ()


IMPORTS = {
    LIFEPOOL: Import("from lifepool import Pool", requires=("lifepool",)),
    "lifepool-after-fastapi": Import(
        "from lifepool import Pool", before="import fastapi", requires=("lifepool", "fastapi")
    ),
    "fastapi": Import("import fastapi", requires=("fastapi",)),
    STANDARD: Import("from concurrent.futures import ProcessPoolExecutor"),
    "asyncio": Import("import asyncio"),
    "loky": Import("import loky", requires=("loky",)),
    "pebble": Import("import pebble", requires=("pebble",)),
    "deadpool": Import("import deadpool", requires=("deadpool",)),
    "anyio": Import("import anyio.to_process", requires=("anyio",)),
}

PROGRAM = """
import time
{before}
start = time.perf_counter()
{timed}
print(time.perf_counter() - start)
"""


async def measure_cold_start(name: str, parameters: Parameters) -> Outcome:
    """Measure from nothing to the first answer: import the package, make the pool, run a no-op."""
    contender = make_contender(name, int(parameters["workers"]))
    begin = time.perf_counter()
    await contender.start()
    started = time.perf_counter()
    await contender.run(tasks.noop)
    answered = time.perf_counter()
    await contender.close()
    closed = time.perf_counter()
    return Outcome(
        {
            "first answer": (answered - begin) * MILLISECONDS,
            "start": (started - begin) * MILLISECONDS,
            "close": (closed - answered) * MILLISECONDS,
        }
    )


async def measure_import(name: str, parameters: Parameters) -> Outcome:
    """Measure an import in fresh interpreters; the median of several."""
    chosen = IMPORTS[name]
    program = PROGRAM.format(before=chosen.before, timed=chosen.timed)
    samples = [_run_import(program) for _ in range(int(parameters["repeats"]))]
    return Outcome({"import": Spread.of(samples).median * MILLISECONDS}, {"seconds": samples})


def _run_import(program: str) -> float:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_BOUND, check=True)
    return float(done.stdout)


def cold_start_case() -> Case:
    """Return the cold start case."""
    return Case(
        name="cold-start",
        title="cold start: import, make the pool, first answer",
        metrics=(Metric("first answer", "ms"), Metric("start", "ms"), Metric("close", "ms")),
        contenders=tuple(CONTENDERS),
        quick_contenders=(LIFEPOOL, STANDARD),
        measure=measure_cold_start,
        default=("asyncio",),
        full={},
        quick={},
        requires=REQUIRES,
    )


def import_case() -> Case:
    """Return the import time case."""
    return Case(
        name="import",
        title="import in a fresh interpreter",
        metrics=(Metric("import", "ms"),),
        contenders=tuple(IMPORTS),
        quick_contenders=("lifepool-after-fastapi", "fastapi"),
        measure=measure_import,
        default=("asyncio",),
        full={"repeats": 5},
        quick={"repeats": 1},
        requires={name: chosen.requires for name, chosen in IMPORTS.items()},
        loops=False,
        timeout=180.0,
    )
