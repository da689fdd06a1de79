"""Histories of a pool with two backends, drawn by hypothesis: each task gets one outcome, and the pool can end."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from lifepool._core import commands as do
from lifepool._core import events as on
from lifepool._core.states import PoolState, TaskState
from lifepool.errors import BackendUnavailable
from tests.core.routed import RoutedScript, check, up

picks = st.integers(0, 7)


class World:
    """What workers and the cluster really have, from the commands; every command is checked against it."""

    def __init__(self, script: RoutedScript) -> None:
        self.script = script
        self.has: dict[int, list[int]] = {number: [] for number in (-1, *script.scheduler.local.fleet.workers)}
        self.starting: list[int] = []
        self.preparing: list[int] = []
        self.live: set[int] = set()
        self.settled: dict[int, TaskState] = {}
        self.is_closed = False
        self.alarm = script.alarm

    def feed(self, event: on.Event) -> None:
        pending: list[on.Event] = [event]
        while pending:
            now = self.script.now
            commands = self.script.scheduler.handle(pending.pop(0), now)
            for command in commands:
                pending += self._perform(command)
            check(self.script.scheduler)

    def _perform(self, command: do.Command) -> list[on.Event]:
        match command:
            case do.SendTask(worker, task):
                assert task in self.live
                assert task not in self.preparing
                assert not any(task in tasks for tasks in self.has.values()), "it is somewhere else already"
                self.has[worker].append(task)
            case do.PreparePayload(task):
                self.preparing.append(task)
            case do.Settle(task, outcome):
                self.live.remove(task)  # once
                self.settled[task] = outcome
                if task in self.preparing:
                    self.preparing.remove(task)
            case do.RetractTasks(worker):
                back = tuple(self.has[worker][1:])
                del self.has[worker][1:]
                return [on.TasksRetracted(worker, back)]
            case do.KillWorker(worker) | do.StopWorker(worker):
                return [on.WorkerExited(worker)] if self.has.pop(worker, None) is not None else []
            case do.StartWorker(worker):
                self.has[worker] = []
                self.starting.append(worker)
            case do.SetTimer(when):
                self.alarm = when
            case do.ReportClosed():
                assert not self.live
                assert not self.has
                self.is_closed = True
        return []

    def fire(self) -> None:
        assert self.alarm is not None
        self.script.now = max(self.script.now, self.alarm)
        self.alarm = None
        self.feed(on.TimerFired())

    def ready(self) -> None:
        for worker in self.starting:
            if worker in self.has:
                self.feed(on.WorkerReady(worker))
        self.starting.clear()


class Machine(RuleBasedStateMachine):
    """One history."""

    prefers_remote: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.script = up(prefers_remote=self.prefers_remote, max_workers=2, min_workers=2, max_queue=4)
        self.world = World(self.script)
        self.last = 0

    def _tasks_of(self, *, remote: bool) -> list[tuple[int, int]]:
        held = self.world.has.items()
        return [
            (worker, task) for worker, tasks in held if (worker < 0) is remote for task in tasks[: 99 if remote else 1]
        ]

    @rule(timeout=st.sampled_from([None, 0.5, 5.0]), retries=st.integers(0, 1), count=st.integers(1, 4))
    def submit(self, timeout: float | None, retries: int, count: int) -> None:
        scheduler = self.script.scheduler
        for _ in range(count):
            for remote in scheduler.order(timeout, "f", self.script.now):
                if scheduler.refusal(timeout, None, "f", remote=remote) is None:
                    self.last += 1
                    self.world.live.add(self.last)
                    task = on.TaskSubmitted(self.last, "f", timeout=timeout, retries=retries, remote=remote)
                    self.world.feed(task)
                    break

    @precondition(lambda self: self._tasks_of(remote=False))
    @rule(pick=picks, succeeded=st.booleans())
    def answers_here(self, pick: int, succeeded: bool) -> None:
        held = self._tasks_of(remote=False)
        worker, task = held[pick % len(held)]
        self.world.has[worker].remove(task)
        self.world.feed(on.TaskReturned(worker, task, succeeded, 0.01))

    @precondition(lambda self: self._tasks_of(remote=True))
    @rule(pick=picks, how=st.sampled_from(["answers", "gives back", "loses", "hands back"]))
    def cluster_is_done(self, pick: int, how: str) -> None:
        held = self._tasks_of(remote=True)
        worker, task = held[pick % len(held)]
        self.world.has[worker].remove(task)
        if how == "answers":
            self.world.feed(on.TaskReturned(worker, task, True, 0.01))
        elif how == "gives back":
            self.world.feed(on.TaskRefused(worker, task, BackendUnavailable("it was cut")))
        else:
            unstarted = (task,) if how == "hands back" else ()
            self.world.feed(on.TaskLost(worker, task, on.WorkerExited(worker, unstarted, reason="its node is gone")))

    @rule(why=st.sampled_from([None, "it was cut"]))
    def connection_changes(self, why: str | None) -> None:
        self.world.feed(on.ReachChanged(why))

    @precondition(lambda self: self.world.preparing)
    @rule(pick=picks, succeeded=st.sampled_from([True, True, False]))
    def payload_is_ready(self, pick: int, succeeded: bool) -> None:
        task = self.world.preparing.pop(pick % len(self.world.preparing))
        self.world.feed(on.TaskPrepared(task, succeeded))

    @precondition(lambda self: self.world.live)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        live = sorted(self.world.live)
        self.world.feed(on.TaskCancelled(live[pick % len(live)]))

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 6.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        world = self.world
        until = self.script.now + seconds
        while world.alarm is not None and world.alarm <= until:
            world.fire()
        self.script.now = max(until, self.script.now)
        world.ready()

    @precondition(lambda self: self.last > 10)
    @rule(timeout=st.sampled_from([0.5, 30.0]))
    def drain(self, timeout: float) -> None:
        self.world.feed(on.DrainRequested(timeout))

    def teardown(self) -> None:
        world, scheduler = self.world, self.script.scheduler
        world.feed(on.DrainRequested(1e6))
        for _ in range(2000):
            if world.is_closed:
                break
            world.ready()
            if world.preparing:
                self.payload_is_ready(0, True)
            elif self._tasks_of(remote=True):
                self.cluster_is_done(0, "answers")
            elif self._tasks_of(remote=False):
                self.answers_here(0, True)
            elif world.alarm is not None:
                world.fire()
        assert world.is_closed
        assert scheduler.state is PoolState.CLOSED
        tallies = (scheduler.local.tally, scheduler.remote.tally)
        assert len(world.settled) == self.last == sum(tally.submitted for tally in tallies)
        assert self.last == sum(sum(tally.outcomes.values()) for tally in tallies)


class Overflow(Machine):
    prefers_remote = False


class Fallback(Machine):
    prefers_remote = True


@pytest.mark.parametrize("machine", [Overflow, Fallback])
def test_each_task_gets_one_outcome_whatever_happens(machine: type[Machine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=80, stateful_step_count=40))
