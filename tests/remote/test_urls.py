"""The URL of a cluster: what is wrong in it is refused when the pool is made."""

from __future__ import annotations

import pytest

from lifepool import BackendUnsupported, Pool
from lifepool.backends.remote import urls
from lifepool.backends.remote.urls import parse, signer_for

LOCAL = "celery+redis://localhost:6379/0"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the engine's package were there."""
    monkeypatch.setattr(urls, "is_installed", lambda package: True)


@pytest.mark.usefixtures("installed")
def test_a_url_says_where_and_how() -> None:
    url = parse("celery+redis://:hunter2@localhost:6380/1?queue=cpu&in_flight=64&ahead=0")
    assert (url.scheme, url.address, url.host) == ("celery+redis", "redis://:hunter2@localhost:6380/1", "localhost")
    assert (url.queue, url.in_flight, url.ahead) == ("cpu", 64, 0.0)
    assert url.where == "redis://localhost:6380/1"
    assert parse("celery+rediss://localhost").address == "rediss://localhost"
    assert parse("dask+tls://localhost:8786").address == "tls://localhost:8786"
    assert parse("ray+gcs://localhost:6379?cpus=4").cpus == 4
    assert parse("ray+local://").host is None


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("celery+redis://", "expected a host"),
        ("celery+redys://localhost", "expected 'local'"),
        ("celery+redis://localhost:port", "[Pp]ort"),
        (f"{LOCAL}?lane=cpu", "no option 'lane', expected one of queue, in_flight, ahead"),
        (f"{LOCAL}?queue=a&queue=b", "queue is given twice"),
        (f"{LOCAL}?queue=", "queue='': expected a name"),
        (f"{LOCAL}?in_flight=0", "in_flight='0': expected a whole number >= 1"),
        (f"{LOCAL}?in_flight=many", "in_flight='many'"),
        (f"{LOCAL}?ahead=-1", "ahead='-1': expected a share"),
        ("celery+redis://:hunter2@localhost?x=1", "no option 'x'"),
        (f"{LOCAL}?cpus=2", "no option 'cpus'"),
        ("ray://", "expected a host"),
        ("ray+local://localhost", r"expected no host, as in 'ray\+local://'"),
        ("ray://localhost?cpus=0", "cpus='0': expected a whole number >= 1"),
    ],
)
def test_what_is_wrong_is_named_when_the_pool_is_made(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        Pool(backend=url)
    assert "hunter2" not in str(refused.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "is_installed", lambda package: False)
    with pytest.raises(BackendUnsupported, match=r"needs celery, .*pip install 'lifepool\[celery\]'"):
        Pool(backend=LOCAL)


def test_rays_client_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "is_installed", lambda package: package == "ray")
    with pytest.raises(BackendUnsupported, match=r"needs grpc, .*pip install 'lifepool\[ray\]'"):
        Pool(backend="ray://localhost")
    Pool(backend="ray+local://")


@pytest.mark.usefixtures("installed")
def test_another_host_needs_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFEPOOL_SECRET", raising=False)
    with pytest.raises(BackendUnsupported, match="set LIFEPOOL_SECRET"):
        Pool(backend="celery+redis://broker")
    assert not signer_for(parse(LOCAL)).has_secret
    monkeypatch.setenv("LIFEPOOL_SECRET", "long and random")
    assert signer_for(parse("celery+redis://broker")).has_secret
    Pool(backend="celery+redis://broker")


@pytest.mark.usefixtures("installed")
def test_an_engine_that_runs_code_for_whoever_can_reach_it_demands_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LIFEPOOL_SECRET", raising=False)
    assert not signer_for(parse("dask+tcp://scheduler:8786")).has_secret
    monkeypatch.setenv("LIFEPOOL_SECRET", "long and random")
    assert signer_for(parse("dask+tcp://scheduler:8786")).has_secret


@pytest.mark.usefixtures("installed")
def test_the_environment_names_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEPOOL_BACKEND", f"{LOCAL}?queue=cpu")
    assert Pool().config.backend == f"{LOCAL}?queue=cpu"


@pytest.mark.usefixtures("installed")
async def test_settings_of_nodes_are_refused_with_advice() -> None:
    with pytest.raises(BackendUnsupported, match="lifepool worker --max-worker-memory"):
        await Pool(backend=LOCAL, max_worker_memory="512MiB").start()
    with pytest.raises(BackendUnsupported, match=r"lifepool\.max-worker-memory in the Dask configuration"):
        await Pool(backend="dask+tcp://localhost", max_worker_memory="512MiB").start()
