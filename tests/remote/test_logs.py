"""What tasks log on a node arrives at the client that called them, or in the node's own log; bounded all the way."""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from lifepool.backends.remote import logs as logs_module
from lifepool.backends.remote.logs import ClientLogs, NodeLogs
from lifepool.backends.remote.loopback import LoopbackCluster, LoopbackNode
from lifepool.backends.remote.messages import LOG, Message, Signer
from lifepool.instrumentation.logging import ForwardLogs
from lifepool.nodes.task_logs import TaskLogs
from tests.engine.gates import until
from tests.instrumentation import logging_tasks as tasks
from tests.instrumentation.test_logging import listening, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


@contextlib.asynccontextmanager
async def client(*hooks: ForwardLogs) -> AsyncIterator[Pool]:
    """A client of a cluster with one node of one worker."""
    cluster = LoopbackCluster("a secret")
    local = Pool(backend="local", max_workers=1)
    local.add_hook(TaskLogs())
    pool = Pool(backend=cluster.backend(ahead=0), max_workers=1)
    for hook in hooks:
        pool.add_hook(hook)
    async with local, cluster.node(local), pool:
        yield pool


async def test_a_record_arrives_with_its_task_its_node_and_in_the_context_of_its_request() -> None:
    with listening() as heard:
        async with client(ForwardLogs()) as pool:
            request.set("A17")
            handle = pool.submit(tasks.say, "hello", logging.INFO, {"colour": "red"})
            request.set("none")
            await handle
            await pool.run(tasks.say, "not wanted", logging.DEBUG)
            await until(lambda: bool(heard.texts))
            cluster = pool.statistics().cluster
            assert cluster is not None
    (record,) = [each for each in heard.records if each.name == "app.work"]
    assert (record.getMessage(), record.levelname, record.colour) == ("hello", "INFO", "red")
    assert (record.task_id, record.task_name, record.worker) == (handle.id, "say", 1)
    assert (record.node, record.request) == (cluster.nodes[0].name, "A17")


async def test_the_client_says_from_which_level_on() -> None:
    with listening() as heard:
        async with client(ForwardLogs(level=logging.DEBUG)) as pool:
            tasks.log.setLevel(logging.DEBUG)
            try:
                await pool.run(tasks.say, "a detail", logging.DEBUG)
                await until(lambda: bool(heard.texts))
            finally:
                tasks.log.setLevel(logging.NOTSET)
    assert heard.texts == ["a detail"]


async def test_without_a_client_that_wants_them_records_are_in_the_nodes_log() -> None:
    with listening() as heard:
        async with client() as pool:
            await pool.run(tasks.say, "in the log of the node", logging.WARNING)
            await until(lambda: bool(heard.texts))
    (record,) = [each for each in heard.records if each.name == "app.work"]
    assert (record.getMessage(), record.worker) == ("in the log of the node", 1)
    assert not hasattr(record, "task_id")


async def test_a_flood_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with listening() as heard:
        async with client(ForwardLogs(per_second=50)) as pool:
            await pool.run(tasks.flood, 500)

            def dropped() -> int:
                cluster = pool.statistics().cluster
                return 0 if cluster is None else cluster.log_records_dropped

            await until(lambda: len(heard.texts) + dropped() == 500)
            assert dropped() >= 300, "fifty in each second that it took"
    warnings = [text for text in caplog.messages if "log records: too many at once" in text]
    assert warnings
    assert "worker 1 of node " in warnings[0]


def a_record(text: str, task: int = 1, worker: int = 1, **more: Any) -> dict[str, Any]:
    fields = {"name": "app", "levelno": 20, "levelname": "INFO", "extra": {}, "msg": text, "dropped": 0}
    return {**fields, "task": task, "worker": worker, **more}


class Sent:
    """What a node has sent, and what its client makes of it."""

    def __init__(self, logs: NodeLogs) -> None:
        logs.send = self._keep
        self.records: list[dict[str, Any]] = []
        self.client = ClientLogs()
        self.client.want(self.records.append, 1000, logging.INFO)
        self.sizes: list[int] = []

    def _keep(self, client: str, records: bytes) -> None:
        assert client == "me"
        self.sizes.append(len(records))
        self.client.take("host:1", records, {"me-1": 7}.get)


def test_what_comes_in_a_moment_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "MOST_BYTES", 10_000)
    logs = NodeLogs()
    sent = Sent(logs)
    logs.begin(1, "me", "me-1", (logging.INFO, 1e9))
    for _ in range(100):
        assert logs.take(a_record("x" * 1000))
    logs.flush()
    arrived = [each for each in sent.records if each["name"] == "app"]
    assert len(sent.sizes) == 1
    assert sent.sizes[0] < 12_000
    assert len(arrived) + sent.client.dropped == 100
    assert {each["task"] for each in arrived} == {7}
    logs.take(a_record("there is room again"))
    logs.end(1)
    assert sent.records[-1]["msg"] == "there is room again", "the end of a call sends what it has logged"


def test_drops_of_worker_and_node_are_added_up_once() -> None:
    logs = NodeLogs()
    sent = Sent(logs)
    logs.begin(1, "me", "me-1", (logging.INFO, 2))
    for number in range(5):
        logs.take(a_record(str(number), dropped=10 if number == 3 else 0))
    logs.flush()
    logs.flush()
    assert [each["msg"] for each in sent.records if each["name"] == "app"] == ["0", "1"]
    assert sent.client.dropped == 3 + 10


def test_a_record_behind_the_end_of_its_call_is_still_its() -> None:
    logs = NodeLogs()
    sent = Sent(logs)
    logs.begin(1, "me", "me-1", (logging.INFO, 100))
    logs.end(1)
    assert logs.take(a_record("late"))
    assert not logs.take(a_record("of nobody", task=2))
    for task in range(3, 1000):
        logs.begin(task, "me", f"me-{task}", (logging.INFO, 100))
        logs.end(task)
    assert not logs.take(a_record("too late")), "the memory of ended calls is bounded"
    logs.flush()
    assert Counter(each["msg"] for each in sent.records) == {"late": 1}


def test_nothing_in_a_record_is_unpickled() -> None:
    records: list[dict[str, Any]] = []
    logs = ClientLogs()
    logs.want(records.append, 100, logging.INFO)
    logs.take("host:1", json.dumps([a_record("text", call="me-1")]).encode(), {"me-1": 3}.get)
    assert (records[0]["msg"], records[0]["task"], records[0]["node"]) == ("text", 3, "host:1")


async def test_records_may_get_lost_where_messages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[str] = []

    def post_or_drop(self: LoopbackNode, client: str, message: Message) -> None:
        dropped.append(Signer("a secret").verify(message, LOG)["kind"])

    monkeypatch.setattr(LoopbackNode, "post_or_drop", post_or_drop, raising=False)
    with listening() as heard:
        async with client(ForwardLogs()) as pool:
            assert await pool.run(tasks.say, "hello")
            await until(lambda: bool(dropped))
    assert (dropped, heard.texts) == ([LOG], []), "an engine that keeps what it can't send has another way for records"
