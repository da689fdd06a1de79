"""`python -m examples.domains`: starts, says where to look, answers, drains and leaves nothing behind."""

import re
import signal
import socket
import threading
from collections.abc import Iterator

import httpx
import psutil
import pytest

from examples.domains.app import app
from tests.examples.domains.serving import STOP_TIMEOUT, Service, running
from tests.gone import still_there

SAMPLE = {"data": "see www.example.com and bob@mail.example.co.uk"}


@pytest.fixture(params=["1", "2"], ids=["one-server", "two-servers"])
def workers(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_a_signal_leaves_no_process(signum: signal.Signals, workers: str) -> None:
    with running(WORKERS=workers) as service:
        answer = httpx.post(f"{service.url}/addContent", json=SAMPLE).raise_for_status().json()
        assert answer["domains_found"] == ["www.example.com", "mail.example.co.uk"]
        assert service.stop(signum) == []
    assert "Traceback" not in service.wait()


def test_it_says_where_to_look_and_all_of_it_is_there() -> None:
    with running() as service:
        printed = service.read_until(r"(?s)^(.*)Application startup")
        for path in ("/", "/docs", "/openapi.json"):
            assert f"{service.url}{path}" in printed
            assert httpx.get(f"{service.url}{path}").is_success
        assert f"{service.url}/addContent" in printed
        assert service.read_until(r"running on (http://\S+)") == service.url
        assert re.search(r"INFO: +pool .* 2 of 2 workers .* max_workers from", printed)


def test_a_running_request_is_finished_before_the_service_stops() -> None:
    """The signal comes while an upload is half way; its answer is whole all the same."""
    half_way, signalled = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b"www.example.com "
        half_way.set()
        assert signalled.wait(STOP_TIMEOUT)
        yield b"mail.example.co.uk"

    with running() as service:
        family = psutil.Process(service.process.pid).children(recursive=True)
        answers: list[httpx.Response] = []
        client = threading.Thread(target=lambda: answers.append(httpx.post(f"{service.url}/upload", content=body())))
        client.start()
        assert half_way.wait(STOP_TIMEOUT)
        service.process.send_signal(signal.SIGTERM)
        service.read_until("Waiting for")
        signalled.set()
        client.join(STOP_TIMEOUT)
        service.process.wait(STOP_TIMEOUT)
        assert still_there(family, STOP_TIMEOUT) == []
    assert answers[0].json()["count"] == 2


def test_a_taken_port_is_a_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = Service(PORT=str(port))
        printed = service.wait()
    assert service.process.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use." in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("PORT", "many"),
        ("PORT", "65536"),
        ("WORKERS", "0"),
        ("WORKERS", ""),
        ("DOMAINS_MAX_BODY", "10MB"),
    ],
)
def test_a_bad_setting_is_a_clear_message(setting: str, value: str) -> None:
    service = Service(**{setting: value})
    printed = service.wait()
    assert service.process.returncode == 1
    assert f"{setting}={value!r} must be a whole number" in printed
    assert "Traceback" not in printed


def test_it_listens_on_ipv6_as_well() -> None:
    with running(HOST="::1") as service:
        assert service.url.startswith("http://[::1]:")


async def test_health_answers_without_the_pool() -> None:
    transport = httpx.ASGITransport(app)  # no lifespan: the pool was never started
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
