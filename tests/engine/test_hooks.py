"""Hooks hear what happens, on real processes, and can't hurt a task."""

from __future__ import annotations

import asyncio
import logging
import operator
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, QueueFull, TaskNotPicklable, TaskTimeout, WorkerLost
from lifepool._engine.hook_calls import BATCH_SIZE
from lifepool.hooks import Hook, TaskRecord, WorkerExit
from tests import tasks
from tests.engine.gates import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.errors import PoolError
    from lifepool.hooks import WatchedPool
    from tests.engine.gates import Gate


class Diary(Hook):
    """Writes down everything."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.settled: list[TaskRecord] = []
        self.exits: list[WorkerExit] = []

    def pool_started(self, pool: WatchedPool) -> None:
        self.lines.append(("started", pool.state.value))

    def pool_closed(self, pool: WatchedPool) -> None:
        self.lines.append(("closed", pool.state.value))

    def task_submitted(self, task: TaskRecord) -> None:
        self.lines.append(("submitted", task.id))

    def task_refused(self, task: TaskRecord, error: PoolError) -> None:
        self.lines.append(("refused", task.name, type(error)))

    def task_sent(self, task: TaskRecord) -> None:
        self.lines.append(("sent", task.id, task.attempts))

    def task_settled(self, task: TaskRecord) -> None:
        self.lines.append(("settled", task.id, task.outcome))
        self.settled.append(task)

    def worker_ready(self, worker: int) -> None:
        self.lines.append(("ready", worker))

    def worker_exited(self, exit: WorkerExit) -> None:
        self.exits.append(exit)


def watched(**settings: Any) -> tuple[Pool, Diary]:
    pool, diary = Pool(**{"max_workers": 1, **settings}), Diary()
    pool.add_hook(diary)
    return pool, diary


@pytest.mark.all_loops
async def test_a_hook_hears_a_tasks_whole_story() -> None:
    pool, diary = watched()
    async with pool:
        await pool.run(tasks.echo, b"x" * 1000)
    assert diary.lines == [
        ("ready", 1),
        ("started", "running"),
        ("submitted", 1),
        ("sent", 1, 1),
        ("settled", 1, "completed"),
        ("closed", "closed"),
    ]
    (record,) = diary.settled
    assert record.name == "echo"
    assert record.worker == 1
    assert record.wait_s is not None
    assert record.run_s is not None
    assert record.finished is not None
    assert record.finished - record.submitted >= record.wait_s + record.run_s - 1e-6
    assert record.bytes_sent > 1000 < record.bytes_received
    assert [(exit.reason, exit.completed) for exit in diary.exits] == [("closed", 1)]


async def test_it_hears_what_went_wrong(gate: Gate) -> None:
    pool, diary = watched()
    async with pool:
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        with pytest.raises(TaskTimeout):
            await pool.run(tasks.hold, gate.address, timeout=1.0)
        with pytest.raises(WorkerLost):
            await pool.run(tasks.exit_hard, 3)
        with pytest.raises(TaskNotPicklable):
            await pool.run(tasks.echo, lambda: 1)
    assert [(each.outcome, type(each.error)) for each in diary.settled] == [
        ("failed", ZeroDivisionError),
        ("timed_out", TaskTimeout),
        ("lost", WorkerLost),
    ]
    assert ("refused", "echo", TaskNotPicklable) in diary.lines
    assert ("died", 3) in [(exit.reason, exit.exitcode) for exit in diary.exits]


async def test_it_hears_of_refusals_and_of_what_was_dropped_from_the_queue(gate: Gate) -> None:
    pool, diary = watched(max_queue=1)
    async with pool:
        running = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        queued = pool.submit(tasks.double, 2)
        with pytest.raises(QueueFull):
            pool.submit(tasks.double, 3)
        assert pool.cancel(queued.id)
        assert not pool.cancel(queued.id)
        visitor.let_through()
        await running
    assert ("refused", "double", QueueFull) in diary.lines
    dropped = diary.settled[0]
    assert (dropped.id, dropped.outcome, dropped.attempts, dropped.worker) == (queued.id, "cancelled", 0, None)


async def test_retries_are_counted_as_attempts(tmp_path: Any) -> None:
    pool, diary = watched()
    async with pool:
        await pool.run(tasks.die_unless_tried_before, str(tmp_path / "mark"), retries=1)
    (record,) = diary.settled
    assert (record.attempts, record.outcome) == (2, "completed")


async def test_a_hook_that_raises_is_logged_once_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Hook):
        def task_submitted(self, task: TaskRecord) -> None:
            raise RuntimeError("the exporter is down")

        def propagate_context(self, task: TaskRecord) -> None:
            raise RuntimeError("the exporter is down")

    pool, diary = watched()
    pool.add_hook(Broken())
    with caplog.at_level(logging.ERROR, "lifepool"):
        async with pool:
            assert await pool.gather(tasks.double, range(5), chunksize=1) == [0, 2, 4, 6, 8]
    assert len(diary.settled) == 5
    assert len([each for each in caplog.records if "is not called any more" in each.message]) == 1


async def test_a_hook_that_raised_can_give_back_what_it_took(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Hook):
        def __init__(self) -> None:
            self.closed = 0

        def worker_exited(self, exit: WorkerExit) -> None:
            raise RuntimeError("the exporter is down")

        def pool_closed(self, pool: WatchedPool) -> None:
            self.closed += 1

    pool, hook = Pool(max_workers=1), Broken()
    async with pool:
        pool.add_hook(hook)
        with pytest.raises(WorkerLost):
            await pool.run(tasks.exit_hard, 3)
        assert (hook.closed, pool.hooks) == (1, ())
    assert hook.closed == 1


async def test_no_records_are_made_for_hooks_that_do_not_hear_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfWorkers(Hook):
        def worker_ready(self, worker: int) -> None: ...

    made: list[object] = []
    monkeypatch.setattr("lifepool._engine.submission.TaskRecord", lambda *arguments: made.append(arguments))
    async with Pool(backend="inline") as pool:
        pool.add_hook(OfWorkers())
        assert await pool.run(tasks.double, 21) == 42
    assert made == []


class Counting(Hook):
    """Hears of tasks in batches."""

    def __init__(self) -> None:
        self.batches: list[list[TaskRecord]] = []
        self.closed = False

    def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
        self.batches.append(list(tasks))

    def pool_closed(self, pool: WatchedPool) -> None:
        self.closed = True

    @property
    def seen(self) -> list[int]:
        return [task.id for batch in self.batches for task in batch]


async def test_tasks_are_told_of_in_batches_soon_and_before_the_end() -> None:
    counting = Counting()
    async with Pool(backend="inline") as pool:
        pool.add_hook(counting)
        for number in range(3):
            await pool.run(tasks.double, number)
        await until(lambda: counting.seen == [1, 2, 3])
        for number in range(BATCH_SIZE):
            await pool.run(tasks.double, number)
        assert len(counting.seen) >= BATCH_SIZE, "a full batch does not wait"
        assert max(map(len, counting.batches)) <= BATCH_SIZE
        await pool.run(tasks.double, 0)
        pool.tell_hooks()
        assert counting.seen == list(range(1, BATCH_SIZE + 5)), "nor does it when it is asked for"
        with pytest.raises(ZeroDivisionError):
            await pool.run(operator.truediv, 1, 0)
    assert counting.closed
    last = counting.batches[-1][-1]
    assert (last.id, last.outcome, type(last.error)) == (BATCH_SIZE + 5, "failed", ZeroDivisionError)


async def test_a_hook_that_goes_or_comes_hears_of_what_was_settled_while_it_was_there() -> None:
    first, second = Counting(), Counting()
    async with Pool(backend="inline") as pool:
        pool.add_hook(first)
        await pool.run(tasks.double, 1)
        pool.add_hook(second)
        await pool.run(tasks.double, 2)
        pool.remove_hook(first)
        await pool.run(tasks.double, 3)
    assert (first.seen, second.seen) == ([1, 2], [2, 3])


async def test_a_hook_that_raises_over_a_batch_is_not_called_again(caplog: pytest.LogCaptureFixture) -> None:
    class Breaks(Counting):
        def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
            super().tasks_settled(tasks)
            raise OSError("the disk is full")

    breaks, sound = Breaks(), Counting()
    async with Pool(backend="inline") as pool:
        pool.add_hook(breaks)
        pool.add_hook(sound)
        for _ in range(2):
            await pool.run(tasks.double, 1)
            pool.tell_hooks()
        assert pool.hooks == (sound,)
    assert (breaks.seen, breaks.closed, sound.seen) == ([1], True, [1, 2])
    assert "is not called any more" in caplog.text


async def test_a_hook_that_comes_while_a_task_runs_does_not_hear_of_that(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        running = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        late = Diary()
        pool.add_hook(late)
        visitor.let_through()
        await running
        assert late.settled == []


async def test_a_hook_may_come_late_and_go_early() -> None:
    pool, late = Pool(max_workers=1), Diary()
    async with pool:
        await pool.run(tasks.double, 1)
        pool.add_hook(late)
        assert late.lines == [("started", "running")]
        await pool.run(tasks.double, 2)
        pool.remove_hook(late)
        await pool.run(tasks.double, 3)
        with pytest.raises(ValueError, match="does not watch"):
            pool.remove_hook(late)
    assert [each.id for each in late.settled] == [2]
    assert late.lines[-1] == ("closed", "running"), "it was told that it hears nothing more"
    assert late.lines.count(("closed", "running")) == 1
    assert pool.hooks == ()


async def test_a_hook_stays_when_the_pool_is_started_again() -> None:
    pool, diary = watched()
    for _ in range(2):
        async with pool:
            await pool.run(tasks.double, 1)
    assert [line for line in diary.lines if line[0] in ("started", "closed")] == [
        ("started", "running"),
        ("closed", "closed"),
    ] * 2
    assert len(diary.settled) == 2


async def test_workers_say_what_they_run(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        running = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        (busy,) = [worker for worker in pool.workers() if worker.state == "busy"]
        assert (busy.pid, busy.task, busy.task_name) == (visitor.pid, running.id, "hold")
        assert busy.running_s is not None
        assert busy.running_s >= 0
        (idle,) = [worker for worker in pool.workers() if worker.state == "ready"]
        assert (idle.task, idle.running_s, idle.pending) == (None, None, 0)
        assert all(worker.memory_bytes is None or worker.memory_bytes > 1_000_000 for worker in pool.workers())
        assert busy.as_dict()["task_name"] == "hold"
        visitor.let_through()
        await asyncio.wait_for(running, 20)
    assert pool.workers() == ()


async def test_chunks_of_map_are_called_what_is_mapped(gate: Gate) -> None:
    pool, diary = watched()
    async with pool:
        assert await pool.gather(tasks.double, range(3)) == [0, 2, 4]
        mapping = asyncio.ensure_future(pool.gather(tasks.hold_one, [(gate.address, 1)]))
        visitor = await gate.arrival()
        assert [worker.task_name for worker in pool.workers()] == ["hold_one"]
        visitor.let_through()
        assert await mapping == [1]
    assert {record.name for record in diary.settled} == {"double", "hold_one"}


async def test_arguments_can_be_looked_at_and_records_found_while_a_task_is_under_way(gate: Gate) -> None:
    class Curious(Hook):
        def task_called(self, task: TaskRecord, args: tuple[Any, ...]) -> None:
            task.notes["arguments"] = len(args)

    pool = Pool(max_workers=1)
    assert (pool.task_record(1), pool.task_records()) == (None, [])
    pool.add_hook(Curious())
    async with pool:
        handles = [pool.submit(tasks.hold, gate.address, n) for n in range(3)]
        visitor = await gate.arrival()
        assert [record.id for record in pool.task_records(2)] == [handle.id for handle in handles[:2]]
        first = pool.task_record(handles[0].id)
        assert first is not None
        assert (first.notes["arguments"], first.outcome, first.worker) == (2, None, 1)
        visitor.let_through()
        for _ in range(2):
            (await gate.arrival()).let_through()
        await asyncio.gather(*handles)
        assert pool.task_record(handles[0].id) is None
