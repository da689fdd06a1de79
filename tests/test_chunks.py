from __future__ import annotations

import importlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool._bulk.chunks import GROWTH, MAX_CHUNK, TARGET_S, ChunkSizer
from lifepool._transfer.exceptions import decode_error
from lifepool._transfer.grouped import GroupResult, run_chunk
from lifepool.backends.local.codec import thread_safe


def half(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def test_a_chunk_calls_the_function_with_each_item_in_order() -> None:
    result = run_chunk(half, [2, 4, 6], go_on=False)
    assert (result.values, result.errors) == ([1, 2, 3], {})
    assert result.run_s >= 0


def test_an_empty_chunk_is_done_at_once() -> None:
    assert run_chunk(half, [], go_on=True)[:2] == ([], {})


def test_a_chunk_stops_at_the_first_exception_unless_told_to_go_on() -> None:
    stopped = run_chunk(half, [2, 3, 4, 5], go_on=False)
    assert stopped.values == [1, None]
    assert list(stopped.errors) == [1]
    whole = run_chunk(half, [2, 3, 4, 5], go_on=True)
    assert whole.values == [1, None, 2, None]
    assert list(whole.errors) == [1, 3]


def test_an_exception_comes_home_as_itself_with_the_place_where_it_was_raised() -> None:
    error = decode_error(run_chunk(half, [3], go_on=False).errors[0])
    assert isinstance(error, ValueError)
    assert str(error) == "3 is odd"
    assert "in half" in str(error.__cause__)


def test_what_would_end_a_worker_is_not_swallowed_by_a_chunk() -> None:
    def leave(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_chunk(leave, [1], go_on=True)


def test_a_result_can_be_sent() -> None:
    result = run_chunk(half, [2, 3], go_on=True)
    copy = pickle.loads(pickle.dumps(result))
    assert isinstance(copy, GroupResult)
    assert copy == result


def test_a_size_that_was_chosen_stays() -> None:
    sizer = ChunkSizer(7)
    sizer.learn(7, 1e-9)
    assert sizer.size == 7


def test_a_chosen_size_is_no_larger_than_what_there_is_to_do() -> None:
    assert ChunkSizer(7, most=3).size == 3
    assert ChunkSizer(None, most=0).size == 1


def test_sizes_grow_step_by_step_to_the_target() -> None:
    sizer, item_s, sizes = ChunkSizer(None), TARGET_S / 100, []
    for _ in range(6):
        sizes.append(sizer.size)
        sizer.learn(sizer.size, sizer.size * item_s)
    assert sizes == [1, 4, 16, 64, 100, 100]


def test_sizes_shrink_at_once_when_items_turn_out_to_be_long() -> None:
    sizer = ChunkSizer(None)
    for _ in range(10):
        sizer.learn(sizer.size, 1e-9)
    assert sizer.size == MAX_CHUNK
    sizer.learn(MAX_CHUNK, 1000 * TARGET_S)
    assert sizer.size == MAX_CHUNK // 1000
    sizer.learn(10, 60.0)
    assert sizer.size == 1


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 100, allow_subnormal=False)), max_size=20),
    st.integers(1, 500),
)
def test_a_learned_size_stays_within_its_bounds_and_grows_no_faster_than_it_may(
    history: list[tuple[int, float]], most: int
) -> None:
    sizer = ChunkSizer(None, most)
    for items, run_s in history:
        before = sizer.size
        sizer.learn(items, run_s)
        assert 1 <= sizer.size <= min(most, before * GROWTH)


def test_a_chunk_of_nothing_teaches_nothing() -> None:
    sizer = ChunkSizer(None)
    sizer.learn(0, 0.0)
    assert sizer.size == 1


def stop_at_two(number: int) -> int:
    if number == 2:
        raise StopIteration("two")
    return number


def test_a_function_that_raises_stop_iteration_neither_ends_the_chunk_nor_shifts_results() -> None:
    result = run_chunk(stop_at_two, [1, 2, 3], go_on=True)
    assert result.values == [1, None, 3]
    assert list(result.errors) == [1]
    assert "two" in str(decode_error(result.errors[1]))


def test_what_may_be_unpickled_in_a_thread_is_there_under_that_name() -> None:
    own = [(module, name) for module, name in thread_safe._KNOWN if module.startswith("lifepool.")]
    assert (GroupResult.__module__, GroupResult.__name__) in own
    assert all(hasattr(importlib.import_module(module), name) for module, name in own)
