"""Real servers and real nodes on loopback, in an environment that has the engines: make test-cluster."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cluster.celery_redis import CeleryOnRedis
from tests.cluster.dask_cluster import DaskCluster, DaskScheduler
from tests.cluster.rabbitmq import CeleryOnRabbitmq, RabbitServer, rabbitmq_program
from tests.cluster.ray_cluster import RayCluster, RayHead
from tests.cluster.servers import RedisServer
from tests.engine.conftest import gate as gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.servers import Harness

HAS_ENGINES = importlib.util.find_spec("celery") is not None
collect_ignore_glob = [] if HAS_ENGINES else ["test_*.py"]


@contextmanager
def celery_on_redis(request: pytest.FixtureRequest, folder: Path, *, shared: bool) -> Iterator[CeleryOnRedis]:
    if shared:
        with CeleryOnRedis(request.getfixturevalue("shared_redis")) as harness:
            yield harness
        return
    with RedisServer(request.getfixturevalue("redis_program"), folder) as server, CeleryOnRedis(server) as harness:
        yield harness


@contextmanager
def dask_on_tcp(request: pytest.FixtureRequest, folder: Path, *, shared: bool) -> Iterator[DaskCluster]:
    with DaskScheduler(folder) as server, DaskCluster(server, folder, nanny=not shared) as harness:
        yield harness


@contextmanager
def ray_on_gcs(request: pytest.FixtureRequest, folder: Path, *, shared: bool) -> Iterator[RayCluster]:
    with RayHead() as server, RayCluster(server) as harness:
        yield harness


@contextmanager
def celery_on_rabbitmq(request: pytest.FixtureRequest, folder: Path, *, shared: bool) -> Iterator[CeleryOnRedis]:
    if (program := rabbitmq_program()) is None:
        pytest.fail("there is no rabbitmq-server: run `sh scripts/ensure-rabbitmq.sh`", pytrace=False)
    with RabbitServer(program, folder) as server, CeleryOnRabbitmq(server) as harness:
        yield harness


#: By name: what starts the servers of an engine and its nodes. Shared ones may serve other tests meanwhile.
ENGINES: dict[str, Callable[..., AbstractContextManager[Harness]]] = {
    "celery+redis": celery_on_redis,
    "celery+amqp": celery_on_rabbitmq,
    "dask+tcp": dask_on_tcp,
    "ray+gcs": ray_on_gcs,
}


@pytest.fixture(scope="session")
def redis_program() -> str:
    """The path of a Redis server."""
    for name in ("redis-server", "redis-check-rdb"):
        if (path := shutil.which(name)) is not None:
            return path
    pytest.fail("there is no redis-server: run `sh scripts/ensure-redis.sh`", pytrace=False)


@pytest.fixture(scope="session")
def shared_redis(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the tests that leave it as it is."""
    with RedisServer(redis_program, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(autouse=True)
def _patient_starts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for the first sign of a node that is there: on a busy machine two seconds may be too short."""
    if "engine" in request.fixturenames:
        for transport in ("celery.transport.CeleryTransport", "celery.amqp_transport.AmqpTransport"):
            monkeypatch.setattr(f"lifepool.backends.{transport}.wait_for_nodes_s", 20.0)
        monkeypatch.setattr("lifepool.backends.dask.transport.DaskTransport.wait_for_nodes_s", 20.0)


@pytest.fixture(params=list(ENGINES), scope="session")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """An engine with one node of two workers, for tests that leave both as they are."""
    with ENGINES[request.param](request, tmp_path_factory.mktemp("engine"), shared=True) as harness:
        harness.start_node(workers=2)
        yield harness


@pytest.fixture(params=list(ENGINES))
def own_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    """An engine without nodes, with servers of its own, for tests that break them."""
    with ENGINES[request.param](request, tmp_path, shared=False) as harness:
        yield harness
