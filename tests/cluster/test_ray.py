"""What is Ray's alone: its client, the driver process beside the app, nodes that come and go, Ray on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lifepool import BackendUnavailable, Pool, TaskTimeout, WorkerLost
from lifepool.backends.ray.local import LocalRay
from lifepool.backends.remote.urls import make_remote_backend
from tests import tasks
from tests.cluster.proxy import Proxy
from tests.cluster.ray_cluster import HAS_CLIENT, RayCluster, surroundings
from tests.cluster.servers import ROOT, wait_until, works_again
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from lifepool.backends.remote.backend import RemoteBackend

on_ray = pytest.mark.parametrize("engine", ["ray+gcs"], indirect=True)


def driver_of(pid: int) -> psutil.Process:
    """The driver process of an app."""
    (found,) = [p for p in psutil.Process(pid).children() if "lifepool.backends.ray.driver" in p.cmdline()]
    return found


def slots(backend: RemoteBackend) -> int:
    return backend.members.slots()


@pytest.mark.skipif(not HAS_CLIENT, reason="Ray is installed without its client")
@on_ray
async def test_rays_client_does_as_well(engine: RayCluster, gate: Gate) -> None:
    async with Pool(backend=engine.client_url) as pool:
        await works_again(pool)  # Ray's own server for clients fails at times, and is asked again
        assert await pool.gather(tasks.double, range(20)) == [2 * number for number in range(20)]
        data = os.urandom(8 << 20)
        assert await pool.run(tasks.echo, data) == data
        hung = pool.submit(tasks.hold_in_c, gate.address, timeout=5.0)
        cancelled = pool.submit(tasks.hold_stubbornly, gate.address)
        for _ in range(2):
            await gate.arrival()
        cancelled.cancel()
        with pytest.raises(TaskTimeout):
            await hung
        assert await pool.gather(tasks.double, range(4)) == [0, 2, 4, 6]  # both slots are free again


@pytest.mark.skipif(not HAS_CLIENT, reason="Ray is installed without its client")
@pytest.mark.parametrize("own_engine", ["ray+gcs"], indirect=True)
async def test_a_killed_head_is_named_over_rays_client_and_all_heals_when_it_is_back(
    own_engine: RayCluster, gate: Gate
) -> None:
    await asyncio.to_thread(own_engine.start_node)
    async with Pool(backend=own_engine.client_url) as pool:
        await works_again(pool)
        limited = pool.submit(tasks.hold, gate.address, timeout=10.0)
        visitor = await gate.arrival()
        own_engine.stop_server()
        with pytest.raises(BackendUnavailable, match="can't be reached"):
            await pool.run(tasks.double, 1)
        with pytest.raises((TaskTimeout, WorkerLost, BackendUnavailable)):  # the last if its start was not heard of
            await limited
        visitor.let_through()
        await asyncio.to_thread(own_engine.start_server)
        await works_again(pool)


@pytest.mark.skipif(not HAS_CLIENT, reason="Ray is installed without its client")
@on_ray
async def test_a_network_to_the_head_that_is_slow_cut_and_mended(engine: RayCluster) -> None:
    with Proxy(engine.server.client_port) as proxy:
        url = engine.client_url.replace(f":{engine.server.client_port}", f":{proxy.port}")
        async with Pool(backend=url) as pool:
            await works_again(pool)
            proxy.delay_s = 0.03
            assert await pool.gather(tasks.double, range(20), timeout=30) == list(range(0, 40, 2))
            proxy.delay_s = 0.0
            proxy.is_cut = True
            async with asyncio.timeout(20):
                while True:
                    try:
                        await pool.run(tasks.double, 1, timeout=0.5)
                    except BackendUnavailable:
                        break
                    except (TaskTimeout, WorkerLost):
                        continue
            proxy.is_cut = False
            await works_again(pool)


@on_ray
async def test_a_driver_process_that_is_killed_is_replaced_and_nothing_is_lost(engine: RayCluster, gate: Gate) -> None:
    backend: Any = make_remote_backend(engine.url)
    async with Pool(backend=backend) as pool:
        under_way = pool.submit(tasks.hold, gate.address, "came home")
        visitor = await gate.arrival()
        await until(lambda: not any(node.unconfirmed for node in backend._transport._nodes.values()))
        driver_of(os.getpid()).kill()
        visitor.let_through()
        assert await under_way == "came home"
        assert await pool.run(tasks.double, 2) == 4


@on_ray
async def test_slots_follow_nodes_as_they_join_and_leave(engine: RayCluster) -> None:
    backend = make_remote_backend(engine.url)
    async with Pool(backend=backend):
        assert slots(backend) == 2
        other = await asyncio.to_thread(engine.start_node, 1)
        await until(lambda: slots(backend) == 3)
        other.signal(signal.SIGTERM)
        await until(lambda: slots(backend) == 2)
        assert await asyncio.to_thread(other.wait) == 0


APP = """
import asyncio, logging, signal, sys
from lifepool import Pool
from tests import tasks

async def main(url, address):
    async with Pool(backend=url) as pool:
        assert await pool.run(tasks.double, 2) == 4
        assert not [name for name in sys.modules if name.partition(".")[0] in ("ray", "grpc")]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert logging.root.handlers == []
        print("it is here", flush=True)
        await pool.run(tasks.hold, address)

asyncio.run(main(*sys.argv[1:]))
"""


@on_ray
async def test_ray_stays_out_of_the_app_and_its_driver_ends_with_it(engine: RayCluster, gate: Gate) -> None:
    app = subprocess.Popen(
        [sys.executable, "-c", APP, engine.url, gate.address], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        visitor = await gate.arrival()
        driver = driver_of(app.pid)
        app.kill()
        assert app.communicate() == (b"it is here\n", b"")
        await asyncio.to_thread(wait_until, lambda: not is_running(driver), "the end of the driver process")
    finally:
        app.kill()
        app.communicate()
    visitor.let_through()


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_of_ray() -> set[int]:
    names = ("raylet", "gcs_server")
    return {process.pid for process in psutil.process_iter(["name"]) if process.info["name"] in names}


async def test_ray_on_this_machine_is_started_shared_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    short = Path(tempfile.mkdtemp(prefix="r-"))  # the paths of sockets in it may have 107 bytes
    monkeypatch.setenv("TMPDIR", str(short))
    before = processes_of_ray()
    try:
        with surroundings():
            async with Pool(backend="ray+local://?cpus=1") as first:
                assert await first.run(tasks.double, 2) == 4
                await until(lambda: len(processes_of_ray() - before) == 2)  # one that is being forked looks like Ray's
                started = processes_of_ray() - before
                async with Pool(backend="ray+local://?cpus=1") as second:
                    assert await second.run(tasks.double, 3) == 6
                    await until(lambda: processes_of_ray() - before == started)
        await until(lambda: not processes_of_ray() & started)
        (home,) = short.glob("lifepool-ray-*")
        # A driver that had to be killed leaves its folder, and the next one that starts Ray here removes it.
        local = LocalRay(lambda level, message: None)
        local._home = home
        local._sweep()
        assert sorted(path.name for path in home.iterdir()) == ["address", "lock"]
    finally:
        shutil.rmtree(short, ignore_errors=True)
