"""The scheduler against an adversary: every order of events that engine and backend can produce, and some they should
not. ``World`` holds what is really so; Hypothesis looks for a history after which the scheduler believes otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from lifepool._core import events as on
from lifepool._core.policy import Limits
from lifepool._core.states import PoolState
from tests.core.world import RealWorker, World

if TYPE_CHECKING:
    from collections.abc import Callable

BIG = 1 << 30
picks = st.integers(0, 7)  # which of those that can: modulo their number
moments = st.sampled_from([0.0, 1e-4, 2e-3, 6e-3, 0.1, 0.3, 2.5, 70.0])
timeouts = st.sampled_from([None, None, 0.001, 0.05, 1.0, 100.0])
names = st.sampled_from(["tiny", "short", "long", "new"])
RUN_S = {"tiny": 1e-5, "short": 2e-3, "long": 0.5, "new": 3e-3}


def _some(choose: Callable[[Machine], list[RealWorker]]) -> Callable[[Machine], bool]:
    return lambda machine: bool(choose(machine))


def _starting(m: Machine) -> list[RealWorker]:
    return [w for w in m.world.workers.values() if not w.ready]


def _with_tickets(m: Machine) -> list[RealWorker]:
    slots = m.limits.slots
    return [w for w in m.world.workers.values() if w.tickets and len(w.claimed) < slots]


def _claiming(m: Machine) -> list[RealWorker]:
    return [w for w in m.world.workers.values() if w.claimed]


def _about_to_run(m: Machine) -> list[RealWorker]:
    return [w for w in m.world.workers.values() if w.claimed and not w.outbox and not w.importing and not w.killed]


def _importing(m: Machine) -> list[RealWorker]:
    # Its answer may be on its way: then the import has failed.
    return [w for w in m.world.workers.values() if w.importing in w.claimed]


def _answering(m: Machine) -> list[RealWorker]:
    return [w for w in m.world.workers.values() if w.outbox]


def _alive(m: Machine) -> list[RealWorker]:
    return list(m.world.workers.values())


def _doomed(m: Machine) -> list[RealWorker]:
    return [w for w in m.world.workers.values() if w.killed or w.stopped]


def _able(m: Machine) -> list[RealWorker]:
    return [w for w in m.world.workers.values() if w.ready and not w.stopped and not w.killed]


class Machine(RuleBasedStateMachine):
    """One history of a pool."""

    limits: ClassVar[Limits]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.limits)
        self.names: dict[int, str] = {}
        self.last_task = 0

    @initialize(at_once=st.booleans())
    def start(self, at_once: bool) -> None:
        for name in ("tiny", "short"):
            self.world.scheduler.run_times.learn(name, RUN_S[name])
        self.world.feed(on.StartRequested())
        while at_once and (starting := _starting(self)):
            self.world.get_ready(starting[0])

    # -- callers --------------------------------------------------------------------------------------------------

    @rule(
        name=names, timeout=timeouts, priority=st.integers(0, 2), retries=st.integers(0, 2),
        fair_key=st.sampled_from([None, "a", "b"]), count=st.integers(1, 4),
        preparing=st.sampled_from([False, False, True]),
    )  # fmt: skip
    def submit(
        self, name: str, timeout: float | None, priority: int, retries: int, fair_key: str | None, count: int,
        preparing: bool,
    ) -> None:  # fmt: skip
        for _ in range(count):
            self.last_task += 1
            self.names[self.last_task] = name
            self.world.submit(on.TaskSubmitted(self.last_task, name, priority, timeout, retries, fair_key, preparing))

    @precondition(lambda self: self.world.preparing)
    @rule(pick=picks, succeeded=st.sampled_from([True, True, False]))
    def payload_is_ready_or_cannot_be_made(self, pick: int, succeeded: bool) -> None:
        preparing = self.world.preparing
        self.world.prepared(preparing[pick % len(preparing)], succeeded=succeeded)

    @precondition(lambda self: self.world.live)
    @rule(pick=picks, abandon=st.booleans())
    def cancel(self, pick: int, abandon: bool) -> None:
        live = list(self.world.live)
        self.world.feed(on.TaskCancelled(live[pick % len(live)], abandon))

    # -- time -----------------------------------------------------------------------------------------------------

    @rule(moment=moments, loop_is_busy=st.booleans())
    def time_passes(self, moment: float, loop_is_busy: bool) -> None:
        world = self.world
        world.now += moment
        while not loop_is_busy and world.alarm is not None and world.alarm <= world.now:
            world.fire()

    @precondition(lambda self: self.world.alarm is not None)
    @rule()
    def alarm_rings(self) -> None:
        self.world.fire()

    # -- workers --------------------------------------------------------------------------------------------------

    @precondition(_some(_starting))
    @rule(pick=picks)
    def worker_becomes_ready(self, pick: int) -> None:
        starting = _starting(self)
        self.world.get_ready(starting[pick % len(starting)])

    @precondition(_some(_with_tickets))
    @rule(pick=picks)
    def worker_claims_a_task(self, pick: int) -> None:
        workers = _with_tickets(self)
        self.world.claim(workers[pick % len(workers)])

    @precondition(lambda self: self.limits.slots == 1 and bool(_about_to_run(self)))
    @rule(pick=picks)
    def worker_has_to_import_first(self, pick: int) -> None:
        workers = _about_to_run(self)
        self.world.import_begins(workers[pick % len(workers)])

    @precondition(_some(_importing))
    @rule(pick=picks)
    def worker_has_imported(self, pick: int) -> None:
        workers = _importing(self)
        self.world.import_ends(workers[pick % len(workers)])

    @precondition(_some(_claiming))
    @rule(pick=picks, succeeded=st.booleans(), retryable=st.booleans(), memory=st.sampled_from([None, 1, 2 * BIG]),
          kept=st.sampled_from([None, None, None, on.KeptViews(1, 8), on.KeptViews(65, 8)]))  # fmt: skip
    def worker_finishes_a_task(
        self, pick: int, succeeded: bool, retryable: bool, memory: int | None, kept: on.KeptViews | None
    ) -> None:
        workers = _claiming(self)
        worker = workers[pick % len(workers)]
        task = worker.claimed[pick % len(worker.claimed)]
        run_s = RUN_S[self.names[task]]
        self.world.finish(
            worker, on.TaskReturned(worker.number, task, succeeded, run_s, not succeeded and retryable, memory, kept)
        )

    @precondition(_some(_answering))
    @rule(pick=picks)
    def answer_arrives(self, pick: int) -> None:
        workers = _answering(self)
        self.world.deliver(workers[pick % len(workers)])

    @precondition(_some(_able))
    @rule(pick=picks, succeeded=st.booleans())
    def worker_serves_all_it_has(self, pick: int, succeeded: bool) -> None:
        workers = _able(self)
        worker = workers[pick % len(workers)]
        while worker.tickets and not worker.claimed:
            self.world.claim(worker)
            task = worker.claimed[0]
            run_s = RUN_S[self.names[task]]
            self.world.finish(worker, on.TaskReturned(worker.number, task, succeeded, run_s))
            self.world.deliver(worker)

    @precondition(_some(_doomed))
    @rule(pick=picks)
    def worker_goes_as_it_was_asked_to(self, pick: int) -> None:
        workers = _doomed(self)
        self.world.die(workers[pick % len(workers)])

    @precondition(_some(_alive))
    @rule(pick=picks, signal=st.sampled_from([None, 9, 11]), oom=st.booleans())
    def worker_dies(self, pick: int, signal: int | None, oom: bool) -> None:
        workers = _alive(self)
        self.world.die(workers[pick % len(workers)], signal=signal, oom=oom)

    @precondition(lambda self: self.last_task > 5 and bool(_able(self)))
    @rule(pick=picks)
    def worker_talks_nonsense(self, pick: int) -> None:
        workers = _able(self)
        self.world.talk_nonsense(workers[pick % len(workers)])

    @precondition(lambda self: self.last_task == 5)
    @rule()
    def late_news_of_somebody_long_gone(self) -> None:
        world = self.world
        for event in (
            on.WorkerReady(10**6),
            on.TaskReturned(10**6, 1, True, 0.0),
            on.TasksRetracted(10**6, (1,)),
            on.WorkerExited(10**6, (1,)),
            on.TaskCancelled(10**6),
        ):
            world.feed(event)

    @precondition(lambda self: self.last_task > 3 and not self.world.recycles_awaited)
    @rule()
    def all_workers_are_to_be_replaced(self) -> None:
        self.world.recycles_awaited += 1
        self.world.feed(on.RecycleRequested())

    # -- the end --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.last_task > 8)
    @rule(timeout=st.sampled_from([0.0, 1.0, 30.0]))
    def drain(self, timeout: float) -> None:
        self.world.feed(on.DrainRequested(timeout))

    @precondition(lambda self: self.last_task > 12)
    @rule()
    def close(self) -> None:
        self.world.feed(on.CloseRequested())

    def teardown(self) -> None:
        """Check that all tasks are settled and the pool can end if everybody behaves from now on."""
        world = self.world
        if world.broken:
            return
        world.come_to_rest(lambda: not world.live and not world.recycles_awaited)
        world.feed(on.DrainRequested(1e6))
        if world.scheduler.state is PoolState.DRAINING:
            world.come_to_rest(lambda: world.closes_reported == 1)
        world.come_to_rest(lambda: world.closes_reported == 1)
        assert world.scheduler.state is PoolState.CLOSED
        assert world.starts_reported == 1
        assert len(world.settled) == world.scheduler.tally.submitted == sum(world.scheduler.tally.outcomes.values())


class OneWorker(Machine):
    limits = Limits(max_workers=1, min_workers=1, max_queue=6)


class ThreeWorkers(Machine):
    limits = Limits(max_workers=3, min_workers=3, max_queue=20)


class UpAndDown(Machine):
    limits = Limits(max_workers=3, min_workers=0, max_queue=20, idle_timeout=2.0, start_timeout=5.0)


class Recycling(Machine):
    limits = Limits(
        max_workers=2, min_workers=1, max_queue=20, max_tasks_per_worker=2, max_worker_memory=BIG, idle_timeout=0.2
    )


class Memory(Machine):
    limits = Limits(max_workers=2, min_workers=2, max_queue=20, max_worker_memory=BIG)


class KillOnly(Machine):
    limits = Limits(max_workers=3, min_workers=1, max_queue=20, can_interrupt=False, can_retract=False)


class ExecutorLike(Machine):
    limits = Limits(
        max_workers=1, min_workers=1, max_queue=20, slots=4, can_kill=False, can_interrupt=False, can_retract=False
    )


class RemoteLike(Machine):
    limits = Limits(
        max_workers=2, min_workers=1, max_queue=20, slots=4, can_kill=False, max_tasks_per_worker=5, idle_timeout=1.0
    )


class SlotsWithKill(Machine):
    limits = Limits(max_workers=3, min_workers=2, max_queue=20, slots=2, max_worker_memory=BIG)


class OneStartAtATime(Machine):
    limits = Limits(max_workers=4, min_workers=3, max_queue=20, cpus=1.0, idle_timeout=1.0)


class InParts(Machine):
    limits = Limits(max_workers=2, min_workers=2, max_queue=40, settled_at_once=2, timers_at_once=2)


MACHINES = (
    OneWorker, ThreeWorkers, UpAndDown, Recycling, Memory, KillOnly, ExecutorLike, RemoteLike, SlotsWithKill,
    OneStartAtATime, InParts,
)  # fmt: skip
for machine in MACHINES:
    machine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)

TestOneWorker = OneWorker.TestCase
TestThreeWorkers = ThreeWorkers.TestCase
TestUpAndDown = UpAndDown.TestCase
TestRecycling = Recycling.TestCase
TestMemory = Memory.TestCase
TestKillOnly = KillOnly.TestCase
TestExecutorLike = ExecutorLike.TestCase
TestRemoteLike = RemoteLike.TestCase
TestSlotsWithKill = SlotsWithKill.TestCase
TestOneStartAtATime = OneStartAtATime.TestCase
TestInParts = InParts.TestCase
