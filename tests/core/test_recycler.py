"""Replacing all workers, one after another: scripts of events, and the exact commands that follow."""

from __future__ import annotations

import pytest

from lifepool._core.events import KeptViews
from lifepool._core.policy import KEPT_VIEWS_MOST
from lifepool._core.states import ExitReason
from tests.core.script import running


def test_all_workers_are_replaced_one_after_another_each_successor_first() -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.submit(1)
    assert pool.recycle() == ["start w3"]
    assert pool.ready(3) == ["stop w1", "start w4"]
    assert pool.exited(1, exitcode=0) == []
    assert pool.ready(4) == ["retract from w2", "recycled"]
    assert pool.returned(2, 1) == ["1 is completed", "stop w2"]
    pool.exited(2, exitcode=0)
    assert pool.scheduler.tally.restarts == {"recycled": 2}


def test_a_worker_that_still_starts_is_waited_for_and_replaced_too() -> None:
    pool = running(max_workers=2, min_workers=1)
    pool.submit(1)
    assert "start w2" in pool.submit(2)
    assert pool.recycle() == ["start w3"]
    assert pool.ready(3) == ["retract from w1", "send 2 to w3"]
    assert pool.ready(2) == ["start w4"]
    assert pool.ready(4) == ["stop w2", "recycled"]


def test_a_successor_that_can_not_start_ends_the_replacement_and_the_old_ones_stay() -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.recycle()
    assert pool.exited(3, start_error="ImportError: model") == ["not recycled: WorkerStartError", "wake in 0.1"]
    assert [pool.submit(task)[0] for task in (1, 2)] == ["send 1 to w2", "send 2 to w1"]
    assert pool.recycle() == ["not recycled: WorkerStartError"], "starts are being backed off from"


def test_a_worker_that_dies_in_the_middle_does_not_keep_the_others_from_being_replaced() -> None:
    pool = running(max_workers=2, min_workers=2)
    for task in (1, 2):
        pool.submit(task)
    pool.recycle()
    assert pool.exited(1, signal=9)[:2] == ["2 is lost: WorkerLost", "start w4"]
    assert pool.ready(3) == ["retract from w2", "recycled"]


@pytest.mark.parametrize("end", ["drain", "close"])
def test_a_pool_that_ends_replaces_nobody(end: str) -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.recycle()
    said = pool.drain() if end == "drain" else pool.close()
    assert "not recycled: PoolClosed" in said
    assert pool.recycle() == ["not recycled: PoolClosed"]


@pytest.mark.parametrize(
    ("kept", "is_replaced"),
    [
        (KeptViews(KEPT_VIEWS_MOST, 1000), False),
        (KeptViews(1, 1001), True),
        (KeptViews(KEPT_VIEWS_MOST + 1, 1000), True),
    ],
)
def test_a_worker_that_keeps_views_of_too_much_is_replaced(kept: KeptViews, is_replaced: bool) -> None:
    pool = running(max_kept_bytes=1000)
    pool.submit(1)
    assert ("stop w1" in pool.returned(1, 1, kept=kept)) is is_replaced
    assert pool.warned == ({1: kept} if is_replaced else {})
    if is_replaced:
        pool.exited(1, exitcode=0)
        assert pool.scheduler.tally.restarts == {"kept_views": 1}
        assert pool.exits == {1: ExitReason.KEPT_VIEWS}
