"""The kinds of task that the stress run draws from, each with the answer that is right for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lifepool import TaskError, TaskNotPicklable, WorkerLost
from tests.stress import workload

if TYPE_CHECKING:
    from random import Random

MIB = 1024 * 1024
LARGEST_MIB = 32
#: Bytes of memory at which a worker is replaced; it may allocate twice as much.
WORKER_MEMORY = 256 * MIB
#: Past the hard limit, and far below what the machine has.
TOO_MUCH = 3 * WORKER_MEMORY


@dataclass(frozen=True, slots=True)
class Job:
    """A call, its options, and what must come of it.

    Attributes:
        kind: For the report.
        fn: What to call with ``args``.
        answer: The right answer, if it has one.
        fails: Whether an error is the one that this job must end with; None if it must answer.
        options: Keywords for ``Pool.submit``.
        may_start: How often it may be started at most.
        payload: Bytes both ways, so that not too many large ones are under way.
    """

    kind: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    answer: Any = None
    fails: Callable[[BaseException], bool] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    may_start: int = 1
    payload: int = 0


Maker = Callable[[int, "Random", str], Job]

#: Large arguments are cut out of this: making random bytes anew would cost more than sending them.
_BLOB = os.urandom(LARGEST_MIB * MIB)


def draw(number: int, random: Random, folder: str) -> Job:
    """Draw a job for task ``number``; ``folder`` is for the marks of tasks that fail once."""
    (maker,) = random.choices(_MAKERS, _WEIGHTS)
    return maker(number, random, folder)


def _quick(number: int, random: Random, _: str) -> Job:
    return Job("quick", workload.double, (number,), 2 * number)


def _working(number: int, random: Random, _: str) -> Job:
    turns = random.randrange(1, 100_000)
    return Job("working", workload.work, (number, turns), turns * (turns - 1) // 2)


def _slow(number: int, random: Random, _: str) -> Job:
    return Job("slow", workload.double_slowly, (number, random.uniform(0.001, 0.1)), 2 * number)


def _favoured(number: int, random: Random, _: str) -> Job:
    options = {"priority": random.randrange(-2, 3), "fair_key": random.choice("abcd")}
    return Job("with priority and key", workload.double, (number,), 2 * number, options=options)


def _retried(number: int, random: Random, _: str) -> Job:
    args = (number, random.uniform(0.001, 0.05))
    return Job("retried", workload.double_slowly, args, 2 * number, options={"retries": 2}, may_start=3)


def _flaky(number: int, random: Random, folder: str) -> Job:
    options = {"retries": 3, "retry_on": OSError}
    args = (number, os.path.join(folder, str(number)))
    return Job("failing once", workload.fail_once, args, 2 * number, options=options, may_start=4)


def _large(number: int, random: Random, _: str) -> Job:
    sent, returned = (int(MIB * LARGEST_MIB ** random.random()) for _ in range(2))
    at = random.randrange(len(_BLOB) - sent + 1)
    answer = (sent, workload.pattern(number, returned))
    args = (number, _BLOB[at : at + sent], returned)
    return Job("large", workload.swap, args, answer, payload=sent + returned)


def _failing(number: int, random: Random, _: str) -> Job:
    return Job("failing", workload.fail, (number,), fails=lambda e: type(e) is ValueError and e.args == (number,))


def _exiting(number: int, random: Random, _: str) -> Job:
    def fits(error: BaseException) -> bool:
        return type(error) is TaskError and f"SystemExit: {number}" in str(error)

    return Job("sys.exit", workload.exit_softly, (number,), fails=fits)


def _unpicklable_argument(number: int, random: Random, _: str) -> Job:
    def fits(error: BaseException) -> bool:
        return isinstance(error, TaskNotPicklable) and error.side == "arguments"

    return Job("argument that can't be sent", workload.double, ({number: threading.Lock()},), fails=fits, may_start=0)


def _unpicklable_result(number: int, random: Random, _: str) -> Job:
    def fits(error: BaseException) -> bool:
        return isinstance(error, TaskNotPicklable) and error.side == "result"

    return Job("result that can't be sent", workload.return_a_lock, (number,), fails=fits)


def _greedy(number: int, random: Random, _: str) -> Job:
    return Job("out of memory", workload.take_too_much, (number, TOO_MUCH), fails=lambda e: isinstance(e, MemoryError))


def _deadly(number: int, random: Random, _: str) -> Job:
    code = random.randrange(256)
    ways: list[tuple[Callable[..., Any], tuple[int, ...], tuple[int | None, int | None]]] = [
        (workload.exit_hard, (number, code), (code, None)),
        (workload.read_null, (number,), (None, signal.SIGSEGV)),
        (workload.abort, (number,), (None, signal.SIGABRT)),
    ]
    fn, args, how = random.choice(ways)

    def fits(error: BaseException) -> bool:
        return isinstance(error, WorkerLost) and (error.exitcode, error.signal) == how

    retries = random.choice((0, 0, 1))
    return Job("deadly", fn, args, fails=fits, options={"retries": retries}, may_start=1 + retries)


_HANGS = (
    workload.hang_in_python,
    workload.hang_in_sleep,
    workload.hang_in_c,
    workload.hang_deaf,
    workload.hang_stubbornly,
)


def _hanging(number: int, random: Random, _: str) -> Job:
    # The one error it may end with, TaskTimeout, is judged by the clock: see the accountant.
    timeout = random.uniform(0.05, 0.3)
    return Job("hanging", random.choice(_HANGS), (number,), fails=lambda _: False, options={"timeout": timeout})


_KINDS: dict[Maker, float] = {
    _quick: 150,
    _working: 10,
    _slow: 4,
    _favoured: 30,
    _retried: 3,
    _flaky: 1,
    _large: 0.8,
    _failing: 3,
    _exiting: 0.5,
    _unpicklable_argument: 0.5,
    _unpicklable_result: 0.5,
    _greedy: 0.3,
    _deadly: 0.4,
    _hanging: 0.5,
}
_MAKERS, _WEIGHTS = tuple(_KINDS), tuple(_KINDS.values())
