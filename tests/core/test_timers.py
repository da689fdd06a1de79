from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lifepool._core.timers import _SLACK, Key, Timer, TimerQueue

keys = st.tuples(st.sampled_from([Timer.TASK_DEADLINE, Timer.RETRY, Timer.KILL]), st.integers(0, 5))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, st.integers(0, 20)),
        st.tuples(st.just("cancel"), keys),
        st.tuples(st.just("due"), st.integers(0, 20)),
    ),
    max_size=60,
)


class SortedList:
    """The same as a sorted list, in five lines."""

    def __init__(self) -> None:
        self.live: dict[Key, float] = {}

    def earliest(self) -> float | None:
        return min(self.live.values(), default=None)

    def due(self, now: float) -> set[Key]:
        """Return which keys may be next: of equal instants any."""
        earliest = self.earliest()
        return {k for k, when in self.live.items() if when == earliest} if (earliest or 0.0) <= now else set()


@given(steps)
def test_timers_are_a_sorted_list(history: list[tuple[object, ...]]) -> None:
    timers, model = TimerQueue(), SortedList()
    for step in history:
        match step:
            case ("set", key, int(when)):
                timers.set(key, float(when))  # type: ignore[arg-type]
                model.live[key] = float(when)  # type: ignore[index]
            case ("cancel", key):
                timers.cancel(key)  # type: ignore[arg-type]
                model.live.pop(key, None)  # type: ignore[call-overload]
            case ("due", int(now)):
                popped = timers.pop_due(float(now))
                expected = model.due(float(now))
                assert (popped in expected) if expected else (popped is None)
                if popped is not None:
                    del model.live[popped]
        assert timers.earliest() == model.earliest()
        assert len(timers) == len(model.live)
        assert all((key in timers) == (key in model.live) for key in [(t, n) for t in Timer for n in range(6)])


def test_timers_come_in_the_order_of_their_instants() -> None:
    timers = TimerQueue()
    for number, when in enumerate([5.0, 1.0, 3.0]):
        timers.set((Timer.RETRY, number), when)
    assert [timers.pop_due(10.0) for _ in range(4)] == [(Timer.RETRY, 1), (Timer.RETRY, 2), (Timer.RETRY, 0), None]


def test_a_burst_of_cancelled_deadlines_leaves_nothing_behind() -> None:
    timers = TimerQueue()
    for number in range(10_000):
        timers.set((Timer.TASK_DEADLINE, number), 1e6 + number)
    for number in range(9_990):
        timers.cancel((Timer.TASK_DEADLINE, number))
        assert len(timers._heap) <= 2 * len(timers) + _SLACK
    assert timers.earliest() == 1e6 + 9_990


def test_a_timer_that_is_set_again_and_again_takes_no_more_room() -> None:
    timers = TimerQueue()
    for step in range(10_000):
        timers.set((Timer.IDLE, 1), float(step))
        assert len(timers._heap) <= 2 + _SLACK + 1
    assert timers.earliest() == 9_999.0


def test_a_timer_that_is_set_to_the_same_instant_fires_once() -> None:
    timers = TimerQueue()
    for _ in range(3):
        timers.set((Timer.IDLE, 1), 5.0)
    assert [timers.pop_due(5.0), timers.pop_due(5.0)] == [(Timer.IDLE, 1), None]
