"""Webhooks: signed as the Standard Webhooks specification has it, repeated until they are answered with 2xx."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from lifepool.jobs import Jobs
from lifepool.jobs.store import calling
from lifepool.jobs.webhooks import headers_of, key_of, post
from tests.jobs import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

PATIENCE_S = 30.0


class Receiver:
    """A server that keeps what it gets; the first answers are given."""

    def __init__(self, statuses: list[int]) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.enough = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = statuses.pop(0)
                receiver.requests.append(({key.lower(): value for key, value in self.headers.items()}, body))
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "/elsewhere")
                self.end_headers()
                if not statuses:
                    receiver.enough.set()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    receiver = Receiver(list(statuses))
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


def is_signed(key: str, headers: dict[str, str], body: bytes) -> bool:
    """As the specification's libraries check it."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(base64.b64decode(key.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    return hmac.compare_digest(headers["webhook-signature"], "v1," + base64.b64encode(mac).decode())


async def test_a_webhook_is_signed_and_repeated_with_the_same_id(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "DELAYS_S", (0.01,) * 5)
    with receiving(500, 302, 204) as receiver:
        async with Jobs(Pool(backend="inline"), store=sqlite_url, secret="a secret") as jobs:
            job = await jobs.submit(tasks.add, 1, 2, on_done=receiver.url, tags=["paid"])
            await jobs.wait(job.id, PATIENCE_S)
            while not receiver.enough.is_set():
                await jobs.wait((await jobs.submit(tasks.slow, 0.01)).id, PATIENCE_S)
            key = jobs.webhook_key
            while await jobs._running().store.calls_of(job.id):
                await jobs.wait((await jobs.submit(tasks.slow, 0.01)).id, PATIENCE_S)
        assert key is not None
        assert len(receiver.requests) == 3
        for headers, body in receiver.requests:
            assert is_signed(key, headers, body)
            assert not is_signed(key, headers, body + b" ")
        assert {headers["webhook-id"] for headers, _ in receiver.requests} == {f"{job.id}.job.succeeded"}
        document = json.loads(receiver.requests[0][1])
        assert (document["id"], document["type"], document["tags"]) == (job.id, "job.succeeded", ["paid"])
        assert "result" not in document


def test_the_signature_is_the_specifications() -> None:
    """Its own example."""
    key, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    headers = headers_of(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_key_of_webhooks_is_not_the_secret() -> None:
    assert "secret" not in key_of("secret")
    assert key_of("secret") != key_of("other")


def test_who_can_not_be_reached_is_a_failure() -> None:
    assert "refused" in (post("http://127.0.0.1:1/", key_of("secret"), "id", b"{}") or "")
