"""What Prometheus reads of a pool with a cluster, and one trace from the request into the worker of a node."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from lifepool import Pool
from lifepool.backends.remote.loopback import LoopbackCluster
from lifepool.backends.remote.messages import OUTCOME, Refused, Signer
from lifepool.instrumentation.metrics import CAUSES, CLUSTER_METRICS, NODE_STATES, PLACES, SIDES
from lifepool.instrumentation.prometheus import PrometheusHook
from tests import tasks
from tests.engine.gates import until
from tests.instrumentation import traced_tasks
from tests.instrumentation.scrapes import check_metrics, scrape
from tests.instrumentation.test_opentelemetry import Tracing
from tests.remote.loopback_world import world

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


async def test_a_cluster_can_be_read_off(registry: CollectorRegistry, promtool: str) -> None:
    async with world(nodes=2, workers=2) as w:
        w.pool.add_hook(PrometheusHook(registry))
        await until(lambda: w.backend.members.slots() == 4)
        for number in range(3):
            await w.pool.run(tasks.double, number)
        agent = w.cluster.nodes[0].agent
        head = {"id": "x-1", "node": agent.node, "status": "returned", "run_s": 0.0}
        w.backend.received(Signer("a secret").sign(OUTCOME, head, b"?"))
        w.backend.received(Signer("another").sign(OUTCOME, head, b"?"))
        for reason in ("expired", "of a reason that is new"):
            agent.count(Refused(reason, "a test"), "a call")
        agent.announce()
        await until(lambda: w.backend.members.refused["expired"] == 1)
        seen = scrape(registry)
        kinds = {f.name: f.type for f in text_string_to_metric_families(seen.text) if "cluster" in f.name}
        w.cluster.cut()
        await until(lambda: w.backend.why_unavailable() is not None)
        cut = scrape(registry)
    name = w.pool.config.name
    assert kinds == {metric.name.removesuffix("_total"): metric.kind for metric in CLUSTER_METRICS}
    assert seen.value("lifepool_cluster_nodes", pool=name, state="ready") == 2
    assert seen.labels("lifepool_cluster_nodes", "state") == set(NODE_STATES)
    assert seen.value("lifepool_cluster_slots", pool=name) == 4
    assert seen.labels("lifepool_cluster_calls", "place") == set(PLACES)
    assert seen.value("lifepool_cluster_overhead_seconds_count", pool=name) == 3
    assert seen.value("lifepool_cluster_redelivered_total", pool=name) == 1
    assert seen.value("lifepool_cluster_refused_total", pool=name, side="client", cause="unsigned") == 1
    assert seen.value("lifepool_cluster_refused_total", pool=name, side="node", cause="expired") == 1
    assert seen.value("lifepool_cluster_refused_total", pool=name, side="node", cause="other") == 1
    assert seen.labels("lifepool_cluster_refused_total", "side") == set(SIDES)
    assert seen.labels("lifepool_cluster_refused_total", "cause") == set(CAUSES), "whatever nodes say, no more labels"
    assert (seen.value("lifepool_cluster_up", pool=name), cut.value("lifepool_cluster_up", pool=name)) == (1, 0)
    assert "lifepool_cluster_clock_offset_seconds" in kinds
    assert check_metrics(promtool, seen.text) == ""
    gone = scrape(registry)
    assert gone.labels("lifepool_cluster_nodes", "state") == set(), "gauges are gone with the pool"
    assert gone.value("lifepool_cluster_redelivered_total", pool=name) == 1, "counters stay"


async def test_a_pool_without_a_cluster_has_no_such_metrics(registry: CollectorRegistry) -> None:
    async with Pool(max_workers=1) as pool:
        pool.add_hook(PrometheusHook(registry))
        await pool.run(tasks.double, 1)
        assert "cluster" not in scrape(registry).text


async def test_the_spans_of_request_task_and_node_are_one_trace(tmp_path: Path) -> None:
    tracing, file, cluster = Tracing(), tmp_path / "spans", LoopbackCluster("a secret")
    local = Pool(backend="local", max_workers=1, initializer=traced_tasks.trace_to, initargs=(str(file),))
    pool = Pool(backend=cluster.backend(ahead=0), max_workers=1)
    pool.add_hook(tracing.hook)
    async with local, cluster.node(local), pool:
        with tracing.tracer.start_as_current_span("request"):
            assert (await pool.run(traced_tasks.work, 4))[0] == 8
    (inside,) = map(json.loads, file.read_text().splitlines())
    request, task = tracing.named("request"), tracing.named("lifepool.task work")
    assert task.context is not None
    assert request.context is not None
    assert task.parent is not None
    assert inside["context"]["trace_id"] == f"0x{request.context.trace_id:032x}"
    assert inside["parent_id"] == f"0x{task.context.span_id:016x}", "the span on the node is a child of the task's"
    assert task.parent.span_id == request.context.span_id
