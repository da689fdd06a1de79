"""One measurement of one contender, in a process of its own.

``python -m benchmarks.measure REQUEST ANSWER``: the request is JSON on the command line, the
outcome is written as JSON to the file ``ANSWER``. A fresh process for each measurement keeps the
contenders apart: threads that poll, warm caches and collected garbage of one never meet another.
"""

import asyncio
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

OPEN_FILES = 8192
"""Wanted limit: the service case has a connection for each request in flight, on both sides."""


def allow_many_connections() -> None:
    """Raise the soft limit of open files as far as the hard one lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop called ``asyncio`` or ``uvloop``."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def main() -> None:
    """Measure what the command line asks for."""
    from benchmarks.cases import CASES

    request = json.loads(sys.argv[1])
    allow_many_connections()
    case = CASES[request["case"]]
    with asyncio.Runner(loop_factory=loop_factory(request["loop"])) as runner:
        outcome = runner.run(case.measure(request["contender"], request["parameters"]))
    Path(sys.argv[2]).write_text(json.dumps(asdict(outcome)), encoding="utf-8")


if __name__ == "__main__":
    main()
