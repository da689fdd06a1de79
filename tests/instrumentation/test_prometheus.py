"""What Prometheus reads of real pools: right, bounded, never going backwards."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from lifepool import Pool, QueueFull, TaskTimeout, WorkerLost
from lifepool._core.states import ExitReason
from lifepool.instrumentation.metrics import METRICS, REASONS, RESTART_REASONS, WORKER_STATES
from lifepool.instrumentation.prometheus import PrometheusHook, exposition
from tests import tasks
from tests.engine.gates import until
from tests.faults.inside import let_time_pass
from tests.instrumentation.scrapes import Scrape, check_metrics, scrape

if TYPE_CHECKING:
    from tests.engine.gates import Gate


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def watched(registry: CollectorRegistry, **settings: Any) -> Pool:
    pool = Pool(**{"max_workers": 1, "name": "a", **settings})
    pool.add_hook(PrometheusHook(registry))
    return pool


@pytest.mark.all_loops
async def test_a_pool_at_work_can_be_read_off(registry: CollectorRegistry, gate: Gate, promtool: str) -> None:
    async with watched(registry, max_queue=1) as pool:
        await pool.run(tasks.echo, b"x" * 1000)
        await pool.run(tasks.echo, b"x" * 200_000)
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        running = pool.submit(tasks.hold, gate.address)
        visitor = await gate.arrival()
        queued = pool.submit(tasks.double, 2)
        with pytest.raises(QueueFull):
            pool.submit(tasks.double, 3)
        await until(lambda: pool.statistics().queued == 1)
        seen = scrape(registry)
        visitor.let_through()
        await asyncio.gather(running, queued)
    assert seen.value("lifepool_tasks_total", pool="a", task="echo", outcome="completed") == 2
    assert seen.value("lifepool_tasks_total", pool="a", task="divmod", outcome="failed") == 1
    assert seen.value("lifepool_queue_length", pool="a") == 1
    assert seen.value("lifepool_queue_rejected_total", pool="a") == 1
    assert seen.value("lifepool_workers", pool="a", state="busy") == 1
    assert seen.labels("lifepool_workers", "state") == set(WORKER_STATES)
    assert seen.value("lifepool_task_run_seconds_count", pool="a") == 3
    assert seen.value("lifepool_task_wait_seconds_count", pool="a") == 3
    assert seen.value("lifepool_task_run_seconds_bucket", pool="a", le="+Inf") == 3
    assert 0 < seen.value("lifepool_worker_utilisation_ratio", pool="a") <= 1
    for direction in ("sent", "received"):
        small = seen.value("lifepool_payload_bytes_total", pool="a", direction=direction, path="channel")
        large = seen.value("lifepool_payload_bytes_total", pool="a", direction=direction, path="shared_memory")
        assert 1000 < small < 2000 < 200_000 < large < 201_000
    if os.path.exists("/proc/self/status"):
        assert seen.value("lifepool_worker_memory_bytes", pool="a") > 1_000_000
    assert check_metrics(promtool, seen.text) == ""


async def test_exactly_the_documented_metrics_are_there(registry: CollectorRegistry, promtool: str) -> None:
    async with watched(registry) as pool:
        await pool.run(tasks.double, 1)
        text, content_type = exposition("", registry)
        open_text, open_type = exposition("application/openmetrics-text; version=1.0.0", registry)
    kinds = dict(line.split()[2:4] for line in text.decode().splitlines() if line.startswith("# TYPE"))
    assert kinds == {metric.name: metric.kind for metric in METRICS}
    assert content_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    assert open_text.endswith(b"# EOF\n")
    assert b"# TYPE lifepool_tasks counter\n" in open_text
    assert check_metrics(promtool, text.decode()) == ""


async def test_every_outcome_and_why_workers_ended(registry: CollectorRegistry, gate: Gate) -> None:
    async with watched(registry) as pool:
        with pytest.raises(WorkerLost):
            await pool.run(tasks.exit_hard, 3)
        held = pool.submit(tasks.hold_in_c, gate.address, timeout=30)
        await gate.arrival()
        let_time_pass(pool, 30)
        with pytest.raises(TaskTimeout):
            await held
        cancelled = pool.submit(tasks.hold, gate.address)
        cancelled.cancel()
        await pool.run(tasks.double, 1)
    seen = scrape(registry)
    assert {(task, outcome) for task, outcome in pairs(seen)} >= {
        ("exit_hard", "lost"),
        ("hold_in_c", "timed_out"),
        ("hold", "cancelled"),
        ("double", "completed"),
    }
    assert seen.value("lifepool_worker_restarts_total", pool="a", reason="died") == 1
    assert seen.value("lifepool_worker_restarts_total", pool="a", reason="interrupted") >= 1
    assert seen.labels("lifepool_worker_restarts_total", "reason") == set(RESTART_REASONS)
    assert seen.total("lifepool_worker_restarts_total", reason="other") == 0, "the end of the pool is no restart"


def pairs(seen: Scrape) -> set[tuple[str, str]]:
    return {
        (dict(labels)["task"], dict(labels)["outcome"])
        for name, labels in seen.counters()
        if name == "lifepool_tasks_total"
    }


def test_every_reason_of_the_scheduler_has_its_label() -> None:
    assert REASONS.keys() == {*ExitReason} - {ExitReason.CLOSED}


async def test_names_above_the_limit_share_a_label(registry: CollectorRegistry) -> None:
    async with Pool(max_workers=1, name="a") as pool:
        pool.add_hook(PrometheusHook(registry, max_task_names=2))
        for function in (tasks.double, tasks.echo, abs, tasks.double, len, abs):
            await pool.run(function, [1] if function is len else 1)  # type: ignore[arg-type]
        scrape(registry)
        await pool.run(abs, 1)
        await pool.run(tasks.double, 1)
        seen = scrape(registry)
    assert seen.labels("lifepool_tasks_total", "task") == {"double", "echo", "other"}
    assert seen.value("lifepool_tasks_total", pool="a", task="other", outcome="completed") == 4
    assert seen.value("lifepool_tasks_total", pool="a", task="double", outcome="completed") == 3


async def test_counters_go_on_when_the_pool_is_started_again(registry: CollectorRegistry) -> None:
    pool = watched(registry)
    before: Any = {}
    for round_number in range(1, 4):
        async with pool:
            await pool.run(tasks.double, 1)
            seen = scrape(registry)
            assert seen.value("lifepool_task_run_seconds_count", pool="a") == round_number
            assert all(seen.counters()[key] >= value for key, value in before.items())
            before = seen.counters()
    ended = scrape(registry)
    assert all(ended.counters()[key] >= value for key, value in before.items())
    assert ended.value("lifepool_tasks_total", pool="a", task="double", outcome="completed") == 3
    assert "lifepool_workers{" not in ended.text, "nobody is there any more"


async def test_a_hook_that_is_removed_leaves_its_counts_and_takes_its_gauges_along(registry: CollectorRegistry) -> None:
    hook = PrometheusHook(registry)
    async with Pool(max_workers=1, name="a") as pool:
        await pool.run(tasks.double, 1)
        pool.add_hook(hook)
        await pool.run(tasks.double, 1)
        pool.remove_hook(hook)
        await pool.run(tasks.double, 1)
        seen = scrape(registry)
    assert seen.value("lifepool_tasks_total", pool="a", task="double", outcome="completed") == 1
    assert seen.value("lifepool_task_run_seconds_count", pool="a") == 1, "what was before and after is not counted"
    assert "lifepool_queue_length{" not in seen.text


async def test_two_pools_have_their_labels_and_pools_of_one_name_are_added_up(registry: CollectorRegistry) -> None:
    async with watched(registry) as a, watched(registry, name="b") as b, watched(registry, name="b") as b_too:
        await asyncio.gather(a.run(tasks.double, 1), b.run(tasks.double, 1), b_too.run(tasks.double, 1))
        seen = scrape(registry)
    assert [seen.total("lifepool_tasks_total", pool=name) for name in "ab"] == [1, 2]
    assert [seen.total("lifepool_workers", pool=name) for name in "ab"] == [1, 2]
    assert seen.value("lifepool_worker_utilisation_ratio", pool="b") <= 1


async def test_a_second_hook_for_a_pool_is_refused(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "lifepool"):
        async with watched(registry) as pool:
            pool.add_hook(PrometheusHook(registry))
            await pool.run(tasks.double, 1)
            seen = scrape(registry)
    assert "one is enough for it" in caplog.text
    assert seen.total("lifepool_tasks_total") == 1


async def test_a_scrape_from_a_thread_is_fresh_and_one_of_a_blocked_loop_is_not_stuck(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifepool.instrumentation.prometheus.REFRESH_TIMEOUT_S", 20.0)
    async with watched(registry) as pool:
        await pool.run(tasks.double, 1)
        seen = await asyncio.to_thread(scrape, registry)
        assert seen.total("lifepool_tasks_total") == 1
        await pool.run(tasks.double, 1)
        monkeypatch.setattr("lifepool.instrumentation.prometheus.REFRESH_TIMEOUT_S", 0.01)
        with ThreadPoolExecutor(1) as thread:
            seen = thread.submit(scrape, registry).result(20)  # blocks the loop
        assert seen.total("lifepool_tasks_total") == 1, "as it was before"


async def test_hostile_names_do_no_harm(registry: CollectorRegistry) -> None:
    async with watched(registry, name='a"} 1\\nevil 2\\') as pool:
        await pool.run(tasks.double, 1)
        seen = scrape(registry)
    assert seen.labels("lifepool_queue_length", "pool") == {'a"} 1\\nevil 2\\'}


async def test_the_loop_s_lag_is_a_histogram_that_counts_each_look_once(registry: CollectorRegistry) -> None:
    pool, hook = Pool(backend="inline", name="a"), PrometheusHook(registry)
    pool.add_hook(hook)

    def counted() -> float:
        return scrape(registry).value("lifepool_loop_lag_seconds_count", pool="a")

    for least in (3, 6):
        async with pool:
            await until(lambda least=least: counted() >= least)  # type: ignore[misc]
    assert counted() == hook._lag.snapshot().count
