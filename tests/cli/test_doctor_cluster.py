"""`lifepool doctor --backend`: each step of the path to a cluster, broken by force and sound, without a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from lifepool.backends.remote import availability, urls
from lifepool.backends.remote.backend import RemoteBackend
from lifepool.backends.remote.loopback import LoopbackCluster, LoopbackTransport
from lifepool.cli.doctor.cluster import PROBES, check_cluster
from tests.cli import loopback_engine
from tests.cli.runner import lifepool
from tests.cli.test_doctor import by_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lifepool.cli.doctor.findings import Finding

URL = "loopback://127.0.0.1"


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(urls.ENGINES, "loopback", urls.Engine("tests.cli.loopback_engine", "pytest", "none"))
    monkeypatch.setattr(loopback_engine, "cluster", LoopbackCluster())
    monkeypatch.setattr("lifepool.cli.doctor.cluster.GRACE_S", 0.2)
    for bound in ("LATE_S", "FREE_S", "OFFSET_S"):  # a busy machine may be late
        monkeypatch.setattr(f"lifepool.cli.doctor.cluster.{bound}", 30.0)
    monkeypatch.delenv("LIFEPOOL_SECRET", raising=False)


@contextlib.asynccontextmanager
async def node(*allow: str, about: dict[str, Any] | None = None, workers: int = 1) -> AsyncIterator[None]:
    async with Pool(backend="local", max_workers=workers) as local, loopback_engine.cluster.node(local, allow) as made:
        made.agent._about.update(about or {})
        yield


async def examine(url: str = URL) -> tuple[dict[str, Finding], list[Finding]]:
    found = [finding async for finding in check_cluster(url, 20)]
    return by_topic(found), found


async def test_a_sound_cluster_passes_every_step() -> None:
    async with node(PROBES, "shop", workers=2):
        topics, found = await examine()
    assert [each for each in found if each.status != "ok"] == []
    assert list(topics) == [
        "URL", "engine", "secret", "broker", "nodes", "node", "versions", "clocks", "allow list", "round trip",
        "deadline",
    ]  # fmt: skip
    assert topics["nodes"].found == "1 with 2 slots"
    assert f"{PROBES}, shop" in topics["allow list"].found
    assert topics["deadline"].found.startswith("TaskTimeout")


async def test_a_node_that_does_not_run_the_probes_shows_the_way_all_the_same() -> None:
    async with node("shop"):
        topics, _ = await examine()
    assert topics["round trip"].status == "ok"
    assert "refused there" in topics["round trip"].found
    assert topics["deadline"].status == "warn"
    assert f"--allow {PROBES}" in (topics["deadline"].fix or "")


async def test_a_node_that_allows_nothing_fails() -> None:
    async with node():
        topics, found = await examine()
    assert topics["allow list"].status == "fail"
    assert "--allow MODULE" in (topics["allow list"].fix or "")
    assert found[-1] is topics["allow list"], "no call can come through"


@pytest.mark.parametrize(
    ("url", "topic", "text"),
    [
        ("nothing", "URL", "expected the URL of a cluster"),
        ("loopback://127.0.0.1?colour=red", "URL", "no option 'colour'"),
        ("loopback://127.0.0.1:port", "URL", "Port"),
        ("loopback://elsewhere.example", "secret", "needs a secret"),
    ],
)
async def test_what_is_wrong_in_the_url_is_said_before_anything_is_connected(url: str, topic: str, text: str) -> None:
    topics, found = await examine(url)
    assert found[-1].topic == topic
    assert topics[topic].status == "fail"
    assert text in topics[topic].found
    assert topics[topic].fix


async def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(urls.ENGINES, "loopback", urls.Engine("tests.cli.loopback_engine", "no_such_engine", "celery"))
    topics, _ = await examine()
    assert topics["engine"].status == "fail"
    assert "pip install 'lifepool[celery]'" in (topics["engine"].fix or "")


async def test_a_broker_that_can_not_be_reached() -> None:
    loopback_engine.cluster.is_cut = True
    topics, found = await examine()
    assert found[-1] is topics["broker"]
    assert topics["broker"].status == "fail"
    assert "can't be reached" in topics["broker"].found


async def test_an_engine_that_takes_long_for_its_first_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray does on a busy machine: a process is started, imports it and connects."""
    monkeypatch.setattr(LoopbackTransport, "wait_for_nodes_s", 20.0)
    monkeypatch.setattr(availability, "PATIENCE_S", 0.0)
    looks = 0

    def why_unavailable(backend: RemoteBackend) -> str | None:
        nonlocal looks
        looks += 1
        if looks == 40:
            asyncio.get_running_loop().call_soon(loopback_engine.cluster.mend)
        return of_the_backend(backend)

    of_the_backend = RemoteBackend.why_unavailable
    monkeypatch.setattr(RemoteBackend, "why_unavailable", why_unavailable)
    async with node(PROBES):
        loopback_engine.cluster.is_cut = True
        topics, found = await examine()
    assert looks >= 40
    assert topics["broker"].status == "ok"
    assert [each for each in found if each.status == "fail"] == []


async def test_an_engine_that_takes_long_for_its_first_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray does on a busy machine: it starts a process for it."""
    monkeypatch.setattr(LoopbackTransport, "wait_for_nodes_s", 20.0)
    monkeypatch.setattr(availability, "NO_NODES_S", 0.0)
    looks, is_late = 0, asyncio.Event()

    def why_unavailable(backend: RemoteBackend) -> str | None:
        nonlocal looks
        looks += 1
        if looks == 60:
            is_late.set()
        return of_the_backend(backend)

    of_the_backend = RemoteBackend.why_unavailable
    monkeypatch.setattr(RemoteBackend, "why_unavailable", why_unavailable)
    done = asyncio.Event()

    async def start_late() -> None:
        await is_late.wait()
        async with node(PROBES):
            await done.wait()

    starting = asyncio.create_task(start_late())
    topics, found = await examine()
    done.set()
    is_late.set()
    await starting
    assert looks >= 60
    assert topics["nodes"].status == "ok"
    assert [each for each in found if each.status == "fail"] == []


async def test_no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "NO_NODES_S", 0.2)
    topics, _ = await examine()
    assert (topics["broker"].status, topics["nodes"].status) == ("ok", "fail")
    assert "lifepool worker" in (topics["nodes"].fix or "")


async def test_another_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "NO_NODES_S", 1.5)  # a node is heard of twice a second
    loopback_engine.cluster.secret = "theirs"
    monkeypatch.setenv("LIFEPOOL_SECRET", "ours")
    async with node(PROBES):
        _, found = await examine()
    assert (found[-1].topic, found[-1].status) == ("secret", "fail")
    assert "another secret" in found[-1].found


async def test_other_versions_and_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from lifepool.backends.remote import node as node_module

    monkeypatch.setattr(node_module, "now_here", lambda: {"time": 4e9})
    async with node(PROBES, about={"versions": ["0.0.1", "3.99.1"]}):
        topics, _ = await examine()
    assert {topic: topics[topic].status for topic in ("versions", "python", "clocks")} == dict.fromkeys(
        ("versions", "python", "clocks"), "warn"
    )
    assert "0.0.1 on " in topics["versions"].found
    assert "NTP" in (topics["clocks"].fix or "")


async def test_nodes_that_drain_take_no_calls() -> None:
    async with Pool(backend="local", max_workers=1) as local, loopback_engine.cluster.node(local, (PROBES,)) as made:
        made.agent._state = "draining"
        made.agent.announce()
        topics, _ = await examine()
    assert topics["slots"].status == "fail"


async def test_nodes_of_one_queue_that_run_different_functions() -> None:
    async with node("shop"), node("stock"):
        _, found = await examine()
    assert [each.status for each in found if each.topic == "allow list"] == ["ok", "ok", "warn"]


def test_the_command_says_what_is_wrong_and_fails() -> None:
    done = lifepool("doctor", "--backend", "celery+nothing://host", "--json")
    assert done.returncode == 1
    (cluster,) = [section for section in json.loads(done.stdout)["sections"] if section["title"] == "Cluster"]
    assert [finding["topic"] for finding in cluster["findings"]] == ["URL"]
    both = lifepool("doctor", "main:app", "--backend", "celery+redis://host")
    assert both.returncode == 2
    assert "not both" in both.stderr
