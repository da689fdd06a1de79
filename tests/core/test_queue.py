from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from lifepool._core.queue import _SLACK, HEAD_START_S, TaskQueue


@dataclass
class Waiting:
    task: int
    priority: int
    key: str | None
    submitted: float


class NaiveQueue:
    """What the queue promises, on plain lists: nobody would call it fast."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []  # in the order of their keys' FIFOs
        self.turns: dict[int, list[str | None]] = {}  # by priority: whose turn it is first

    def push(self, entry: Waiting, *, front: bool) -> None:
        turns = self.turns.setdefault(entry.priority, [])
        if entry.key not in turns:
            turns.append(entry.key)
        if front:
            turns.remove(entry.key)
            turns.insert(0, entry.key)
        self.waiting.insert(0 if front else len(self.waiting), entry)

    def _fifo(self, priority: int, key: str | None) -> list[Waiting]:
        return [entry for entry in self.waiting if (entry.priority, entry.key) == (priority, key)]

    def heads(self) -> list[Waiting]:
        """Return the next task of each priority."""
        return [self._fifo(priority, turns[0])[0] for priority, turns in self.turns.items() if turns]

    def best(self) -> Waiting | None:
        return min(self.heads(), key=lambda e: e.submitted - e.priority * HEAD_START_S, default=None)

    def take(self, entry: Waiting) -> None:
        turns = self.turns[entry.priority]
        self.drop(entry)
        if entry.key in turns:  # it has more: to the end
            turns.remove(entry.key)
            turns.append(entry.key)

    def drop(self, entry: Waiting) -> None:
        self.waiting.remove(entry)
        if not self._fifo(entry.priority, entry.key):
            self.turns[entry.priority].remove(entry.key)


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue, self.naive = TaskQueue(), NaiveQueue()
        self.numbers = count(1)
        self.now = 0.0
        self.most = 0

    # Odd amounts, so that no two ranks are equal: between equals the order is free.
    @rule(
        priority=st.integers(-1, 2), key=st.sampled_from([None, "a", "b", "c"]), front=st.booleans(),
        seconds=st.sampled_from([0.01, 0.3, 1.7]), copies=st.integers(1, 3),
    )  # fmt: skip
    def push(self, priority: int, key: str | None, front: bool, seconds: float, copies: int) -> None:
        for _ in range(copies):
            self.now += seconds + 1e-6
            entry = Waiting(next(self.numbers), priority, key, self.now)
            self.naive.push(entry, front=front)
            self.queue.push(entry.task, priority=priority, fair_key=key, submitted=self.now, front=front)
        self.compare()

    @rule()
    def pop(self) -> None:
        best = self.naive.best()
        assert self.queue.pop() == (best and best.task)
        if best is not None:
            self.naive.take(best)
        self.compare()

    @precondition(lambda self: self.naive.waiting)
    @rule(pick=st.integers(0, 100))
    def remove(self, pick: int) -> None:
        entry = self.naive.waiting[pick % len(self.naive.waiting)]
        assert self.queue.remove(entry.task)
        self.naive.drop(entry)
        self.compare()

    @rule()
    def remove_somebody_who_does_not_wait(self) -> None:
        assert not self.queue.remove(10**6)
        self.compare()

    def compare(self) -> None:
        queue, naive = self.queue, self.naive
        best = naive.best()
        assert queue.peek() == (best and best.task)
        assert len(queue) == len(naive.waiting)
        assert sorted(queue.numbers()) == sorted(e.task for e in naive.waiting)
        assert all(e.task in queue for e in naive.waiting)
        for key in "abc":
            assert queue.waiting_of(key) == sum(e.key == key for e in naive.waiting)
        assert queue.keys_waiting == len({e.key for e in naive.waiting} - {None})
        self.most = max(self.most, len(queue)) if len(queue) else 0
        assert queue.entries_stored <= 2 * self.most + 4 * _SLACK


TestQueueAgainstTheNaiveOne = QueueMachine.TestCase
TestQueueAgainstTheNaiveOne.settings = settings(max_examples=60, stateful_step_count=40)


def fill(*tasks: tuple[int, int, str | None, float]) -> TaskQueue:
    queue = TaskQueue()
    for task, priority, key, submitted in tasks:
        queue.push(task, priority=priority, fair_key=key, submitted=submitted)
    return queue


def drained(queue: TaskQueue) -> list[int]:
    order = []
    while (task := queue.pop()) is not None:
        order.append(task)
    return order


def test_equals_go_in_the_order_in_which_they_came() -> None:
    assert drained(fill(*((n, 0, None, float(n)) for n in range(5)))) == [0, 1, 2, 3, 4]


def test_a_step_of_priority_is_worth_a_second_and_no_more() -> None:
    assert drained(fill((1, 0, None, 0.0), (2, 1, None, HEAD_START_S - 0.1))) == [2, 1]
    assert drained(fill((1, 0, None, 0.0), (2, 1, None, HEAD_START_S + 0.1))) == [1, 2]


def test_a_low_priority_is_served_however_many_urgent_ones_keep_coming() -> None:
    queue = fill((0, 0, None, 0.0))
    for step in range(1, 40):
        queue.push(step, priority=5, fair_key=None, submitted=step * 0.25)
        if queue.pop() == 0:
            break
    assert step * 0.25 <= 5 * HEAD_START_S + 0.5


def test_keys_take_turns_so_a_single_task_does_not_wait_behind_a_thousand() -> None:
    queue = fill(*((n, 0, "big", n * 1e-3) for n in range(1000)), (5000, 0, "small", 1.0))
    assert [queue.pop(), queue.pop(), queue.pop()] == [0, 5000, 1]


def test_what_comes_back_from_a_worker_goes_first_again() -> None:
    queue = fill((3, 0, "a", 3.0), (4, 0, "b", 4.0))
    for task, key in ((2, "b"), (1, "a")):
        queue.push(task, priority=0, fair_key=key, submitted=float(task), front=True)
    assert drained(queue) == [1, 2, 3, 4]


def test_a_key_whose_only_task_was_removed_does_not_keep_its_turn() -> None:
    queue = fill((1, 0, "a", 1.0), (2, 0, "b", 2.0))
    queue.remove(1)
    queue.push(3, priority=0, fair_key="a", submitted=3.0)
    assert drained(queue) == [2, 3]


def test_removed_tasks_cost_no_memory_in_the_long_run() -> None:
    queue = fill((0, 0, "a", 0.0))
    for n in range(1, 10_000):
        queue.push(n, priority=0, fair_key="ab"[n % 2], submitted=float(n))
        assert queue.remove(n)
        assert queue.entries_stored <= 2 * len(queue) + _SLACK + 1
    assert drained(queue) == [0]


def test_a_sweep_keeps_the_order_and_forgets_keys_that_nobody_waits_under() -> None:
    queue = fill(*((n, 0, "keep" if n % 20 == 0 else f"key{n % 7}", float(n)) for n in range(200)))
    for n in range(200):
        if n % 20:
            queue.remove(n)
    assert queue.entries_stored <= 2 * 10 + _SLACK
    assert queue.keys_waiting == 1
    assert drained(queue) == list(range(0, 200, 20))


def test_an_empty_queue_has_nothing_to_give() -> None:
    queue = TaskQueue()
    assert (queue.peek(), queue.pop(), queue.remove(1), len(queue)) == (None, None, False, 0)
