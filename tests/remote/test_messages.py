"""Messages: what was signed is verified, and nothing else is."""

from __future__ import annotations

import pytest

from lifepool.backends.remote.messages import CALL, CANCEL, OUTCOME, Message, Refused, Signer

SIGNER = Signer("a secret")


def test_a_message_comes_back_as_it_was_signed() -> None:
    message = SIGNER.sign(CALL, {"id": "a-1", "left": 1.5}, b"\x00payload\xff")
    again = Message.unpack(message.pack())
    assert again == message
    head = SIGNER.verify(again, CALL)
    assert (head["id"], head["left"]) == ("a-1", 1.5)


def test_messages_that_were_joined_come_apart_again() -> None:
    messages = [SIGNER.sign(CALL, {"id": f"ä-{size}"}, bytes(size)) for size in (0, 1, 1000)]
    joined = b"".join(message.pack() for message in messages)
    assert Message.unpack_all(joined) == messages
    assert Message.unpack_all(b"") == []
    for broken in (joined[:-1], joined + b"L", joined[1:]):
        with pytest.raises(Refused):
            Message.unpack_all(broken)


@pytest.mark.parametrize("part", range(3))
def test_one_changed_byte_is_noticed(part: int) -> None:
    message = list(SIGNER.sign(CALL, {"id": "a-1"}, b"payload"))
    message[part] = message[part][:-1] + bytes([message[part][-1] ^ 1])
    with pytest.raises(Refused) as refused:
        SIGNER.verify(Message(*message), CALL)
    assert refused.value.reason in ("unsigned", "altered")


def test_a_payload_can_be_neither_left_out_nor_put_in() -> None:
    with_payload, without = SIGNER.sign(CALL, {}, b"payload"), SIGNER.sign(CALL, {})
    for message in (with_payload._replace(payload=b""), without._replace(payload=b"payload")):
        with pytest.raises(Refused, match="not the one that was signed"):
            SIGNER.verify(message, CALL)


def test_another_secret_is_another_signature() -> None:
    for other in (Signer("another"), Signer(None)):
        with pytest.raises(Refused, match="not ours") as refused:
            SIGNER.verify(other.sign(CALL, {}), CALL)
        assert "LIFEPOOL_SECRET" in refused.value.hint


def test_an_outcome_is_not_taken_for_a_call() -> None:
    with pytest.raises(Refused, match="kind 'outcome'"):
        SIGNER.verify(SIGNER.sign(OUTCOME, {}), CALL, CANCEL)


@pytest.mark.parametrize("garbage", [b"", b"LP", b"LP\x00\x02" + bytes(50), bytes(200), b"{}"])
def test_garbage_is_no_message(garbage: bytes) -> None:
    with pytest.raises(Refused):
        Message.unpack(garbage)


def test_a_later_version_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifepool.backends.remote.messages.VERSION", 2)
    later = SIGNER.sign(CALL, {})
    monkeypatch.undo()
    with pytest.raises(Refused, match="version 2") as refused:
        SIGNER.verify(later, CALL)
    assert "one version" in refused.value.hint
