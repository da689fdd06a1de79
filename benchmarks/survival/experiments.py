"""The faults. Each is a coroutine that gets a running pool of two workers and says how that took it."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.survival import probes
from benchmarks.survival.clusters import Cluster
from lifepool.cli.bench.contenders import Anyio, Contender, Deadpool, Lifepool, Pebble

ANSWER_TIMEOUT_S = 8.0
"""Seconds that a pool has to give an answer that needs milliseconds; a restart of workers is in it."""
HANG_TIMEOUT_S = 0.5
QUEUE_TASKS = 5000


@dataclass(frozen=True)
class Verdict:
    """Whether the pool survived, and what was seen."""

    survived: bool
    detail: str


Experiment = Callable[[Contender, str], Awaitable[Verdict]]


async def within(contender: Contender, timeout: float, fn: Callable[..., Any], *args: Any) -> Any:
    """Run a task with a timeout, in the way that this pool offers."""
    match contender:
        case Lifepool():
            return await contender._pool.run(fn, *args, timeout=timeout)
        case Pebble():
            return await asyncio.wrap_future(contender._pool.schedule(fn, args=args, timeout=timeout))
        case Deadpool():
            executor: Any = contender._executor
            return await asyncio.wrap_future(executor.submit(fn, *args, deadpool_timeout=timeout))
        case Cluster():
            return await contender.within(timeout, fn, *args)
        case _:
            return await asyncio.wait_for(cancellable(contender, fn, *args), timeout)


async def cancellable(contender: Contender, fn: Callable[..., Any], *args: Any) -> Any:
    """Run a task so that cancelling the caller reaches it, where the pool has a way to."""
    if isinstance(contender, Anyio):
        return await contender._run_sync(fn, *args, limiter=contender._limiter, cancellable=True)
    if isinstance(contender, Cluster):
        return await contender.cancellable(fn, *args)
    return await contender.run(fn, *args)


async def pids_in(folder: str, count: int) -> list[int]:
    """Wait until so many tasks have announced themselves."""
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        # Tasks of all pools can write a file; nothing else is common to them.
        while len(names := [name for name in os.listdir(folder) if name.isdigit()]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return [int(name) for name in names]


async def answers(contender: Contender) -> Verdict:
    """Tell whether the pool still does plain work, on all its workers."""
    calls = [asyncio.ensure_future(contender.run(probes.double, number)) for number in range(8)]
    done, pending = await asyncio.wait(calls, timeout=ANSWER_TIMEOUT_S)
    errors = {type(call.exception()).__name__ for call in done if call.exception() is not None}
    if pending:
        return Verdict(False, f"{len(pending)} of 8 later tasks hang")
    if errors:
        return Verdict(False, f"later tasks get {', '.join(sorted(errors))}")
    return Verdict(True, "later tasks are answered")


async def outcome(call: Awaitable[Any]) -> str:
    """Return what comes of a call, as a word or two; "hangs" if nothing does."""
    future = asyncio.ensure_future(call)
    done, _ = await asyncio.wait([future], timeout=ANSWER_TIMEOUT_S)
    if not done:
        return "hangs"
    if future.cancelled():
        return "CancelledError"
    error = future.exception()
    return "answered" if error is None else type(error).__name__


async def neighbour_of_a_crash(contender: Contender, folder: str) -> Verdict:
    neighbour = asyncio.ensure_future(contender.run(probes.announce_and_wait, folder, 1.5))
    await pids_in(folder, 1)
    await outcome(contender.run(probes.crash))
    seen = await outcome(neighbour)
    return Verdict(seen == "answered", f"the other running task: {seen}")


async def queued_at_a_crash(contender: Contender, folder: str) -> Verdict:
    busy = [asyncio.ensure_future(contender.run(probes.announce_and_wait, folder, 0.5)) for _ in range(2)]
    await pids_in(folder, 2)
    deadly = asyncio.ensure_future(contender.run(probes.crash))
    queued = [asyncio.ensure_future(contender.run(probes.double, number)) for number in range(20)]
    seen = [await outcome(call) for call in queued]
    await asyncio.wait([*busy, deadly], timeout=ANSWER_TIMEOUT_S)
    answered = seen.count("answered")
    return Verdict(answered == 20, f"{answered} of 20 queued tasks answered")


async def use_after_a_crash(contender: Contender, folder: str) -> Verdict:
    seen = await outcome(contender.run(probes.crash))
    if seen in ("hangs", "answered"):
        return Verdict(False, f"the task that crashed: {seen}")
    return await answers(contender)


async def signal_idle_worker(contender: Contender, folder: str, number: int) -> int:
    """Send a signal to a worker once both are idle; return its process id."""
    calls = [asyncio.ensure_future(contender.run(probes.announce_and_wait, folder, 0.3)) for _ in range(2)]
    pids = await pids_in(folder, 2)
    await asyncio.gather(*calls)
    os.kill(pids[0], number)
    return pids[0]


async def idle_worker_killed(contender: Contender, folder: str) -> Verdict:
    pid = await signal_idle_worker(contender, folder, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=0.3)
    return await answers(contender)


async def idle_worker_stopped(contender: Contender, folder: str) -> Verdict:
    await signal_idle_worker(contender, folder, signal.SIGSTOP)
    return await answers(contender)


async def caller_of_a_hang(contender: Contender, folder: str) -> Verdict:
    start = time.monotonic()
    seen = await outcome(within(contender, HANG_TIMEOUT_S, probes.hang_in_c, folder))
    took = time.monotonic() - start
    is_timeout = "Timeout" in seen or "TimeLimit" in seen
    # A busy machine may be late by two seconds; the slowest peer that does answer takes seven times the timeout.
    return Verdict(is_timeout and took < 5 * HANG_TIMEOUT_S, f"{seen} after {took:.2f} s")


async def workers_after_hangs(contender: Contender, folder: str) -> Verdict:
    hangs = [within(contender, HANG_TIMEOUT_S, probes.hang_in_c, folder) for _ in range(2)]
    await asyncio.gather(*map(outcome, hangs))
    return await answers(contender)


async def cancelled_task_stops(contender: Contender, folder: str) -> Verdict:
    call = asyncio.ensure_future(cancellable(contender, probes.hang_in_c, folder))
    (pid,) = await pids_in(folder, 1)
    call.cancel()
    start = time.monotonic()
    while is_running(pid):
        if time.monotonic() > start + ANSWER_TIMEOUT_S:
            return Verdict(False, f"{ANSWER_TIMEOUT_S:.0f} s later it still runs")
        await asyncio.sleep(0.02)
    took = time.monotonic() - start
    after = await answers(contender)
    return Verdict(after.survived, f"ended after {took:.1f} s; {after.detail}")


def is_running(pid: int) -> bool:
    """Tell whether there is such a process that has not ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def unpicklable_argument(contender: Contender, folder: str) -> Verdict:
    seen = await outcome(contender.run(probes.double, {"lock": threading.Lock()}))
    after = await answers(contender)
    return Verdict(seen not in ("hangs", "answered") and after.survived, f"{seen}; {after.detail}")


async def unpicklable_result(contender: Contender, folder: str) -> Verdict:
    seen = await outcome(contender.run(probes.make_lock))
    after = await answers(contender)
    return Verdict(seen not in ("hangs", "answered") and after.survived, f"{seen}; {after.detail}")


async def unpicklable_exception(contender: Contender, folder: str) -> Verdict:
    seen = await outcome(contender.run(probes.raise_stubborn))
    after = await answers(contender)
    return Verdict(seen == "Stubborn" and after.survived, f"{seen}; {after.detail}")


async def task_calls_sys_exit(contender: Contender, folder: str) -> Verdict:
    seen = await outcome(_without_exit(contender))
    after = await answers(contender)
    return Verdict(seen not in ("hangs", "answered") and after.survived, f"{seen}; {after.detail}")


async def _without_exit(contender: Contender) -> None:
    try:
        await contender.run(probes.leave)
    except SystemExit as error:  # raised in the server, it would end that
        raise RuntimeError("SystemExit in the server") from error


async def queue_has_a_bound(contender: Contender, folder: str) -> Verdict:
    """Put far more in than can be done; somebody must say no, or make the caller wait."""
    for _ in range(2):
        asyncio.ensure_future(contender.run(probes.announce_and_wait, folder, probes.ENDLESS_S))  # noqa: RUF006
    await pids_in(folder, 2)
    if isinstance(contender, Deadpool):
        return await _blocking_bound(contender._executor)
    calls = [asyncio.ensure_future(contender.run(probes.double, 1)) for _ in range(QUEUE_TASKS)]
    done, pending = await asyncio.wait(calls, timeout=1.0)
    refused = {type(call.exception()).__name__ for call in done if call.exception() is not None}
    if refused:
        return Verdict(True, f"{len(pending)} of {QUEUE_TASKS} accepted, the others get {', '.join(sorted(refused))}")
    return Verdict(False, f"all {QUEUE_TASKS} accepted")


async def _blocking_bound(executor: Executor) -> Verdict:
    """Test Deadpool, whose ``submit`` blocks when its backlog is full: call it from a thread."""
    futures: list[object] = []

    def submit_all() -> None:
        for number in range(QUEUE_TASKS):
            futures.append(executor.submit(probes.double, number))  # noqa: PERF401 - its length is looked at meanwhile

    threading.Thread(target=submit_all, daemon=True).start()
    await asyncio.sleep(3.0)
    accepted = len(futures)
    if accepted < QUEUE_TASKS:
        return Verdict(True, f"{accepted} of {QUEUE_TASKS} accepted, then submit blocks its thread (the event loop's)")
    return Verdict(False, f"all {QUEUE_TASKS} accepted")


async def server_killed(contender: Contender, folder: str) -> Verdict:
    """Wait to be killed with both workers in a C loop. The parent process makes the verdict."""
    for _ in range(2):
        asyncio.ensure_future(contender.run(probes.hang_in_c, folder))  # noqa: RUF006
    await pids_in(folder, 2)
    probes.ask_to_be_killed(folder)
    await asyncio.sleep(ANSWER_TIMEOUT_S)
    return Verdict(False, "it was not killed")


EXPERIMENTS: dict[str, tuple[str, Experiment]] = {
    "neighbour": ("a task crashes: the task beside it gets its answer", neighbour_of_a_crash),
    "queued": ("a task crashes: queued tasks get their answers", queued_at_a_crash),
    "after-crash": ("a task crashes: the pool can still be used", use_after_a_crash),
    "idle-killed": ("kill -9 of an idle worker is not noticed", idle_worker_killed),
    "idle-stopped": ("SIGSTOP of an idle worker: later tasks get their answers", idle_worker_stopped),
    "hang-caller": ("a C call hangs: the caller is free after the timeout", caller_of_a_hang),
    "hang-workers": ("C calls hang in all workers: they come back", workers_after_hangs),
    "cancel": ("a running task whose caller is cancelled is ended", cancelled_task_stops),
    "argument": ("an argument that can't be pickled: an error, and the pool goes on", unpicklable_argument),
    "result": ("a result that can't be pickled: an error, and the pool goes on", unpicklable_result),
    "exception": ("an exception that can't be unpickled comes home as itself", unpicklable_exception),
    "sys-exit": ("sys.exit in a task: an error, and the pool goes on", task_calls_sys_exit),
    "bound": ("the queue has a bound", queue_has_a_bound),
    "server-killed": ("kill -9 of the server: no process is left", server_killed),
}
