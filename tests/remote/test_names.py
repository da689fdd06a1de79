"""Envelopes: what calls are as a message of Celery's."""

from __future__ import annotations

import json

import pytest

from lifepool.backends.celery.names import BESIDE, calls_in, celery_message
from lifepool.backends.remote.messages import CALL, Message, Refused, Signer

SIGNER = Signer("a secret")


def body_of(*messages: Message) -> str:
    body: str = json.loads(celery_message("queue", "a-1", messages))["body"]
    return body


def test_calls_that_share_an_envelope_come_out_of_it_in_order() -> None:
    messages = [SIGNER.sign(CALL, {"id": f"a-{n}"}, bytes([n])) for n in range(3)]
    assert calls_in(body_of(*messages)) == messages
    assert calls_in(memoryview(body_of(*messages).encode())) == messages


def test_a_large_payload_is_not_in_its_envelope() -> None:
    message = SIGNER.sign(CALL, {"id": "a-1"}, bytes(BESIDE + 1))
    assert calls_in(body_of(message)) == [message._replace(payload=b"")]


@pytest.mark.parametrize("body", ["", "[]", "[[1], {}, {}]", '[["not base64!"], {}, {}]', '[["AAAA", 2], {}, {}]'])
def test_a_body_of_something_else_is_no_envelope(body: str) -> None:
    with pytest.raises(ValueError, match="no call"):
        calls_in(body)


@pytest.mark.parametrize("packed", ["", "TFAAAQ==", "AAAA"])
def test_an_envelope_of_garbage_is_refused(packed: str) -> None:
    with pytest.raises(Refused):
        calls_in(json.dumps([[packed], {}, {}]))
