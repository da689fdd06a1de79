"""Several pools in one app: each has its dependency, and together they have the CPUs."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from lifepool import Pool, PoolClosed, PoolDep
from lifepool._host.cpus import CpuBudget
from lifepool.integrations.fastapi import install, pool_named
from lifepool.integrations.sharing import share_cpus
from tests.integrations.clients import TestClient
from tests.tasks import double

Fast = Annotated[Pool, Depends(pool_named("fast"))]
Slow = Annotated[Pool, Depends(pool_named("slow"))]


@pytest.fixture(autouse=True)
def five_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = CpuBudget(workers=5, cpus=5, host_cpus=5, server_processes=1, source="5 CPUs (faked)")
    monkeypatch.setattr("lifepool.config.cpu_budget", lambda **_: budget)
    monkeypatch.setattr("lifepool.config.resolve.__kwdefaults__", {"budget": lambda **_: budget})


def sizes(*pools: Pool) -> list[tuple[int, int]]:
    return [(pool.config.max_workers, pool.config.min_workers) for pool in pools]


@pytest.mark.parametrize("one_call", [True, False])
def test_each_pool_has_its_dependency_and_both_live_as_long_as_the_app(one_call: bool) -> None:
    fast, slow = Pool(name="fast", backend="inline"), Pool(name="slow", backend="inline")
    app = FastAPI()
    if one_call:
        install(app, fast, slow)
    else:
        install(app, fast)
        install(app, slow)

    @app.get("/names")
    async def names(first: PoolDep, one: Fast, other: Slow) -> list[Any]:
        return [first.config.name, one.config.name, other.config.name, await other.run(double, 21)]

    with TestClient(app) as client:
        assert client.get("/names").json() == ["fast", "fast", "slow", 42]
        assert {fast.state.value, slow.state.value} == {"running"}
    assert {fast.state.value, slow.state.value} == {"closed"}
    assert len(app.user_middleware) == 1


def test_a_name_that_is_not_there_is_a_503_whose_hint_names_those_that_are() -> None:
    app = FastAPI()
    install(app, Pool(name="fast", backend="inline"), hints=True)

    @app.get("/")
    async def ask(pool: Slow) -> None: ...

    with TestClient(app) as client:
        answer = client.get("/")
    assert answer.status_code == 503
    assert "the installed pools are: 'fast'" in answer.json()["hint"]


async def test_two_of_the_same_name_are_not_guessed_between() -> None:
    app = FastAPI()
    install(app, Pool(backend="inline"), Pool(backend="inline"))

    @app.get("/")
    async def ask(pool: Annotated[Pool, Depends(pool_named("pool"))]) -> None: ...

    with TestClient(app) as client:
        assert client.get("/").json()["type"] == "urn:lifepool:pool-closed"


def test_install_without_a_pool_is_refused() -> None:
    with pytest.raises(TypeError, match=r"install\(app, pool\)"):
        install(FastAPI())


# --- CPUs -----------------------------------------------------------------------------------------------------------


def test_pools_of_one_app_divide_the_cpus_and_say_so() -> None:
    pools = Pool(), Pool()
    assert sizes(*pools) == [(5, 5), (5, 5)]
    install(FastAPI(), *pools)
    assert sizes(*pools) == [(3, 3), (2, 2)]
    assert pools[0].config.max_workers_source == "5 CPUs (faked), shared by 2 pools of the app"


def test_a_third_pool_that_comes_later_divides_anew() -> None:
    app, pools = FastAPI(), [Pool() for _ in range(3)]
    for pool in pools:
        install(app, pool)
        install(app, pool)  # again: it counts once
    assert sizes(*pools) == [(2, 2), (2, 2), (1, 1)]


def test_one_pool_keeps_all() -> None:
    pool = Pool()
    install(FastAPI(), pool)
    assert sizes(pool) == [(5, 5)]


def test_what_a_pool_was_given_is_kept_and_taken_off_first() -> None:
    given, one, other = Pool(max_workers=2), Pool(), Pool(min_workers=0)
    share_cpus([given, one, other])
    assert sizes(given, one, other) == [(2, 2), (2, 2), (1, 0)]


def test_every_pool_has_a_worker_whatever_is_left() -> None:
    pools = Pool(max_workers=9), Pool(), Pool(min_workers=4)
    share_cpus(pools)
    assert sizes(*pools) == [(9, 9), (1, 1), (4, 4)]


async def test_a_pool_that_runs_keeps_what_it_has() -> None:
    running, other = Pool(backend="inline"), Pool()
    async with running:
        share_cpus([running, other])
    assert sizes(running, other) == [(5, 5), (1, 1)]


async def test_a_pool_that_is_asked_for_where_there_is_none_is_no_attribute_error() -> None:
    dependency = pool_named("slow")

    class Connection:
        app = FastAPI()

    with pytest.raises(PoolClosed, match="0 pools with the name 'slow'"):
        await dependency(Connection())
