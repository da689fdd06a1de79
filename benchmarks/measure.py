"""One measurement of one contender, in a process of its own.

Called by ``lifepool.cli.isolation``. A fresh process for each measurement keeps the
contenders separate: threads that poll, warm caches and collected garbage of one never meet another.
"""

import asyncio
import resource
from dataclasses import asdict
from typing import Any

from lifepool.cli.bench.cases import loop_factory

OPEN_FILES = 8192
"""Wanted limit: the service case has a connection for each request in flight, on both sides."""


def allow_many_connections() -> None:
    """Raise the soft limit of open files as far as the hard one lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def measure_request(request: dict[str, Any]) -> dict[str, Any]:
    """Measure what the request asks for: a case, an event loop, a contender, parameters."""
    from benchmarks.cases import CASES

    allow_many_connections()
    case = CASES[request["case"]]
    with asyncio.Runner(loop_factory=loop_factory(request["loop"])) as runner:
        return asdict(runner.run(case.measure(request["contender"], request["parameters"])))
