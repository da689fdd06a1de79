"""What is Dask's alone: workers that come, go and are started anew, connections to them, the plugin, its settings."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest
from dask import config as dask_config
from distributed.core import rpc

from lifepool import BackendUnavailable, Pool, WorkerLost
from lifepool.backends.dask.transport import DaskTransport
from lifepool.backends.remote import availability
from lifepool.backends.remote.urls import make_remote_backend
from lifepool.cli.worker import NodeOptions, run_worker
from lifepool.nodes.dask_node import Config
from tests import tasks
from tests.cluster.dask_cluster import DaskCluster, DaskScheduler
from tests.cluster.servers import Program, python
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lifepool.backends.remote.backend import RemoteBackend


#: Of Dask, that have certificates.
ROLES = ("scheduler", "worker", "client")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskScheduler]:
    with DaskScheduler(tmp_path_factory.mktemp("dask")) as server:
        yield server


@pytest.fixture
def dask(scheduler: DaskScheduler, tmp_path: Path) -> Iterator[DaskCluster]:
    with DaskCluster(scheduler, tmp_path, nanny=False) as harness:
        yield harness


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which there is no node to wait for."""
    monkeypatch.setattr(DaskTransport, "wait_for_nodes_s", 0.2)
    monkeypatch.setattr(availability, "NO_NODES_S", 0.5)


def transport_of(backend: RemoteBackend) -> DaskTransport:
    transport = backend._transport
    assert isinstance(transport, DaskTransport)
    return transport


async def test_slots_follow_workers_as_they_join_and_leave(dask: DaskCluster, gate: Gate) -> None:
    first = await asyncio.to_thread(dask.start_node, 2)
    backend = make_remote_backend(dask.url)
    async with Pool(backend=backend) as pool:
        await until(lambda: backend.members.slots() == 2)
        second = await asyncio.to_thread(dask.start_node, 3)
        await until(lambda: backend.members.slots() == 5)
        handles = [pool.submit(tasks.hold, gate.address, number) for number in range(5)]
        visitors = [await gate.arrival() for _ in handles]  # all at once: each slot has one
        for visitor in visitors:
            visitor.let_through()
        assert [await handle for handle in handles] == list(range(5))
        assert await asyncio.to_thread(first.end) == 0
        await until(lambda: backend.members.slots() == 3)
        async with rpc(dask.server.address) as scheduler:
            await scheduler.unregister_worker_plugin(name="lifepool")
        await until(lambda: backend.members.slots() == 0)
        assert second.is_alive()


async def test_a_worker_that_dask_starts_anew_gets_a_node_again(
    scheduler: DaskScheduler, tmp_path: Path, gate: Gate
) -> None:
    with DaskCluster(scheduler, tmp_path) as dask:
        node = await asyncio.to_thread(dask.start_node)
        await _see_it_die_and_come_back(dask.url, node, gate)


async def _see_it_die_and_come_back(url: str, node: Program, gate: Gate) -> None:
    backend = make_remote_backend(url)
    async with Pool(backend=backend) as pool:
        lost = pool.submit(tasks.hold, gate.address, "lost")
        await gate.arrival()
        (member,) = backend.members.all()
        assert member.pid in [child.pid for child in psutil.Process(node.pid).children()]
        psutil.Process(member.pid).send_signal(signal.SIGKILL)
        with pytest.raises(WorkerLost, match="its node is gone"):
            await lost
        await until(lambda: backend.members.slots() == 1)
        assert await pool.run(tasks.double, 2) == 4


async def test_what_runs_comes_home_though_its_connection_broke(
    dask: DaskCluster, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifepool.backends.dask.link.RETURN_S", 20.0)
    await asyncio.to_thread(dask.start_node, 2)
    backend = make_remote_backend(dask.url)
    async with Pool(backend=backend) as pool:
        before, during = (pool.submit(tasks.hold, gate.address, when) for when in ("before", "during"))
        visitors = [await gate.arrival() for _ in range(2)]
        (link,) = transport_of(backend)._links.values()
        line = link._line
        assert line is not None
        line._comm.abort()
        visitors[0].let_through()
        await until(lambda: link._line not in (None, line))
        visitors[1].let_through()
        assert [await before, await during] == ["before", "during"]
        assert await pool.run(tasks.double, 2) == 4


CLIENT = """
import asyncio, sys
from lifepool import Pool
from tests import tasks

async def main(url, gate, trace):
    async with Pool(backend=url) as pool:
        running = pool.submit(tasks.hold, gate, "runs")
        queued = pool.submit(tasks.append_line, trace, "it ran")
        await queued

asyncio.run(main(*sys.argv[1:]))
"""


async def test_queued_work_of_a_client_that_died_does_not_run(dask: DaskCluster, gate: Gate, tmp_path: Path) -> None:
    node = await asyncio.to_thread(dask.start_node)
    trace = tmp_path / "ran"
    ahead = dask.url.replace("ahead=0", "ahead=1")  # so that the second call waits at the node
    client = python("-c", CLIENT, ahead, gate.address, str(trace), log=tmp_path / "client.log")
    backend = make_remote_backend(dask.url)
    async with Pool(backend=backend) as pool:
        visitor = await gate.arrival()
        await until(lambda: [member.running for member in backend.members.all()] == [2])
        client.kill()
        await until(lambda: [member.running for member in backend.members.all()] == [1])
        visitor.let_through()
        assert await pool.run(tasks.double, 2) == 4  # in the same worker of the node, so after what would have run
        assert not trace.exists()
        assert node.is_alive()


@pytest.mark.usefixtures("no_patience")
async def test_a_worker_without_lifepool_goes_on_and_says_so(
    dask: DaskCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    preload = tmp_path / "hide.py"
    preload.write_text("import sys\nsys.modules['lifepool'] = None\n")
    without = await asyncio.to_thread(dask.start_node, DASK_DISTRIBUTED__WORKER__PRELOAD=str(preload))
    backend = make_remote_backend(dask.url)
    with caplog.at_level(logging.WARNING):
        async with Pool(backend=backend) as pool:
            await until(lambda: "it runs no node: is lifepool installed there?" in caplog.text)
            await asyncio.to_thread(dask.start_node)  # has the plugin from its start
            await until(lambda: backend.members.slots() == 1)
            assert await pool.run(tasks.double, 2) == 4
    assert without.has_said("pip install 'lifepool[dask]'")


async def test_another_secret_is_named_as_the_cause(
    dask: DaskCluster, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    node = await asyncio.to_thread(dask.start_node, LIFEPOOL_SECRET="of the node")
    monkeypatch.setenv("LIFEPOOL_SECRET", "of the node")
    async with Pool(backend=dask.url) as pool:
        assert await pool.run(tasks.double, 2) == 4
    request.getfixturevalue("no_patience")
    monkeypatch.setenv("LIFEPOOL_SECRET", "of the client")
    backend = make_remote_backend(dask.url)
    async with Pool(backend=backend) as pool:
        await until(lambda: backend.refused["unsigned"] > 0)
        with pytest.raises(BackendUnavailable, match="have another secret"):
            await pool.run(tasks.double, 2)
    assert node.has_said("unsigned")


async def test_a_queue_has_its_own_workers(dask: DaskCluster, request: pytest.FixtureRequest) -> None:
    await asyncio.to_thread(dask.start_node, DASK_LIFEPOOL__QUEUE="gpu", DASK_LIFEPOOL__MAX_WORKERS="2")
    backend = make_remote_backend(f"{dask.url}&queue=gpu")
    async with Pool(backend=backend) as pool:
        assert await pool.run(tasks.double, 2) == 4
        assert backend.members.slots() == 2
    request.getfixturevalue("no_patience")
    async with Pool(backend=dask.url) as pool:
        with pytest.raises(BackendUnavailable, match="it has no nodes"):
            await pool.run(tasks.double, 2)


async def test_connections_are_encrypted_as_dask_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*openssl, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    settings = {f"{role}.{name}": file for role in ROLES for name, file in (("key", key), ("cert", certificate))}
    settings["ca-file"] = certificate
    for name, file in settings.items():
        variable = name.upper().replace(".", "__").replace("-", "_")
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{variable}", file)
    with (
        dask_config.set({f"distributed.comm.tls.{name}": file for name, file in settings.items()}),
        DaskScheduler(tmp_path, "tls") as server,
        DaskCluster(server, tmp_path, nanny=False) as cluster,
    ):
        await asyncio.to_thread(cluster.start_node)
        async with Pool(backend=cluster.url) as pool:
            assert await pool.run(tasks.double, 2) == 4


def test_nodes_are_not_started_by_our_own_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_worker("dask+tcp://localhost:8786", None, NodeOptions()) == 2
    assert "but by `dask worker`" in capsys.readouterr().err


def test_a_wrong_setting_of_a_worker_is_named() -> None:
    with dask_config.set({"lifepool.max-worker": 2}), pytest.raises(ValueError, match="max_worker'"):
        Config()
    with dask_config.set({"lifepool.allow": "shop, shop.prices:total", "lifepool.preload": ["shop"]}):
        assert Config().allow == ("shop", "shop.prices:total")
        assert Config().settings.preload == ("shop",)
    assert Config().allow is None
