"""Metrics, the live page and the terminal view of a pool with two backends."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from rich.console import Console

from lifepool import Pool
from lifepool.cli.top.view import View
from lifepool.dashboard.document import document
from lifepool.dashboard.recorder import Recorder
from lifepool.hooks import Hook, TaskRecord
from lifepool.instrumentation.prometheus import PrometheusHook
from tests import tasks
from tests.engine.conftest import gate as gate
from tests.remote.two_backends import world

if TYPE_CHECKING:
    from tests.engine.gates import Gate


class Seen(Hook):
    """Keep which worker had each task."""

    def __init__(self) -> None:
        self.workers: list[int] = []

    def task_settled(self, task: TaskRecord) -> None:
        self.workers.append(task.worker or 0)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, {"pool": "pool", **labels})


async def test_each_backend_has_its_own_numbers(gate: Gate) -> None:
    registry = CollectorRegistry()
    async with world("overflow", max_queue=1) as w:
        w.pool.add_hook(PrometheusHook(registry))
        handles = [w.pool.submit(tasks.hold, gate.address, number) for number in range(4)]
        visitors = [await gate.arrival(), await gate.arrival()]
        for backend in ("local", "remote"):
            assert value(registry, "lifepool_backend_running", backend=backend) == 1
            assert value(registry, "lifepool_backend_queue_length", backend=backend) == 1
        for visitor in visitors:
            visitor.let_through()
        for visitor in [await gate.arrival(), await gate.arrival()]:
            visitor.let_through()
        await asyncio.gather(*handles)
        for backend in ("local", "remote"):
            assert value(registry, "lifepool_backend_tasks_total", backend=backend, outcome="completed") == 2
        assert value(registry, "lifepool_breaker_state", state="closed") == 1
        await w.cut()
        assert value(registry, "lifepool_breaker_state", state="open") == 1
        assert value(registry, "lifepool_breaker_state", state="closed") == 0
        assert value(registry, "lifepool_breaker_opened_total") == 1
        assert value(registry, "lifepool_tasks_moved_total") == 0


async def test_a_pool_with_one_backend_has_none_of_them() -> None:
    registry = CollectorRegistry()
    pool = Pool(backend="inline")
    pool.add_hook(PrometheusHook(registry))
    async with pool:
        assert value(registry, "lifepool_queue_length") == 0
        assert not [
            family.name for family in registry.collect() if "backend" in family.name or "breaker" in family.name
        ]


async def test_the_live_page_and_top_tell_the_two_apart() -> None:
    async with world("fallback") as w:
        recorder = Recorder()
        w.pool.add_hook(recorder)
        await w.pool.run(tasks.double, 1)
        await w.cut()
        await w.pool.run(tasks.double, 1)
        recorder.sample = None  # not of a second ago
        state = document(w.pool, recorder)
    routing = state["counts"]["routing"]
    assert (routing["mode"], routing["breaker"], routing["breaker_reason"]) == ("fallback", "open", None)
    assert (routing["local"]["completed"], routing["remote"]["completed"]) == (1, 1)
    assert state["pool"]["degraded"] == ["breaker-open"]
    assert state["verdict"]["level"] == "notable"
    assert "this machine runs its tasks" in state["verdict"]["text"]
    view, output = View(), io.StringIO()
    view.take(state)
    Console(file=output, width=150, height=40, force_terminal=False).print(view.draw(state, 150, 40))
    shown = output.getvalue()
    assert "open" in shown
    assert "1 done; this machine 0 run, 0 wait, 1 done" in shown


async def test_hooks_see_which_backend_ran_a_task() -> None:
    async with world("fallback") as w:
        hook = Seen()
        w.pool.add_hook(hook)
        await w.pool.run(tasks.double, 1)
        await w.cut()
        await w.pool.run(tasks.double, 1)
        w.pool.tell_hooks()
        there, here = hook.workers
        assert there < 0 < here
