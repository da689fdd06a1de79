"""What a client sees of real nodes on another side of a real broker: statistics, logs, and what the doctor says."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

import lifepool
from lifepool import Pool
from lifepool.instrumentation.logging import ForwardLogs
from tests import tasks
from tests.cluster.servers import ROOT
from tests.engine.gates import until
from tests.instrumentation.test_opentelemetry import Tracing

if TYPE_CHECKING:
    from tests.cluster.servers import Harness


async def test_nodes_and_overhead_are_known_of_a_real_cluster(engine: Harness) -> None:
    async with Pool(backend=engine.url) as pool:
        for number in range(10):
            assert await pool.run(tasks.double, number) == 2 * number
        cluster = pool.statistics().cluster
    assert cluster is not None
    (node,) = cluster.nodes
    assert (node.lifepool, node.slots, node.state) == (lifepool.__version__, 2, "ready")
    assert (cluster.connected, cluster.unavailable, cluster.slots) == (True, None, 2)
    assert cluster.overhead.count == 10
    assert node.clock_offset_s is not None
    assert abs(node.clock_offset_s) < 5


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


async def test_logs_of_a_real_node_come_home(engine: Harness) -> None:
    kept, logger = Kept(), logging.getLogger("app")
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    pool = Pool(backend=engine.url)
    pool.add_hook(ForwardLogs(level=logging.INFO))
    try:
        async with pool:
            handle = pool.submit(tasks.log_a_line, "app.there", "hello from there")
            await handle
            await until(lambda: bool(kept.records))
            cluster = pool.statistics().cluster
    finally:
        logger.removeHandler(kept)
        logger.setLevel(logging.NOTSET)
    assert cluster is not None
    (record,) = kept.records
    assert (record.getMessage(), record.task_id, record.task_name) == ("hello from there", handle.id, "log_a_line")
    assert (record.node, record.worker) == (cluster.nodes[0].name, record.worker)
    assert record.process != os.getpid()


def trace_here() -> tuple[int, int]:
    here = trace.get_current_span().get_span_context()
    return here.trace_id, here.span_id


async def test_a_task_on_a_real_node_is_in_the_trace_of_its_request(engine: Harness) -> None:
    tracing, pool = Tracing(), Pool(backend=engine.url)
    pool.add_hook(tracing.hook)
    async with pool:
        with tracing.tracer.start_as_current_span("request"):
            there = await pool.run(trace_here)
    request, task = tracing.named("request"), tracing.named("lifepool.task trace_here")
    assert request.context is not None
    assert task.context is not None
    assert there == (request.context.trace_id, task.context.span_id)


async def test_the_doctor_tries_a_real_cluster(engine: Harness) -> None:
    command = [sys.executable, "-m", "lifepool", "doctor", "--backend", engine.url, "--json"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, cwd=ROOT, check=False)
    (section,) = [each for each in json.loads(done.stdout)["sections"] if each["title"] == "Cluster"]
    found = {each["topic"]: each for each in section["findings"]}
    assert (done.returncode, [topic for topic, each in found.items() if each["status"] == "fail"]) == (0, [])
    assert found["round trip"]["status"] == "ok"
    assert found["nodes"]["found"] == "1 with 2 slots"
