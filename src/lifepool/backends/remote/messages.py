"""Messages between the web process and its nodes: a head in JSON, the bytes it speaks of, and a signature.

The signature covers the head, and the head has the digest of the bytes: so those may travel apart, by a way that suits
their size. Nothing is unpickled before both are verified. Each message says its kind, which is signed as well: none can
be passed off as another.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from typing import Any, NamedTuple

#: Version of everything here; a message of another one is refused.
VERSION = 1
#: What messages are: client to node, node to client, node to all.
CALL, CANCEL, HELLO, ASK = "call", "cancel", "hello", "ask"
OUTCOME, TAKEN, PROGRESS, LOG = "outcome", "taken", "progress", "log"
NODE = "node"

#: How a call ended, as an outcome says it.
RETURNED, RAISED, LOST, UNSTARTED = "returned", "raised", "lost", "unstarted"
CANCELLED, TIMED_OUT, REFUSED = "cancelled", "timed out", "refused"

_LENGTHS = struct.Struct("!4sII")
_MAGIC = b"LP\x00\x01"
_NO_KEY = b"lifepool without a secret"
_DIGEST_BYTES = 32


class Refused(Exception):
    """A message is not acted upon.

    Attributes:
        reason: Why, in a word or two, for counting: ``"unsigned"``, ``"altered"``, ``"version"``, ``"expired"``,
            ``"replayed"``, ``"not allowed"``, ``"abandoned"``.
        hint: What to do about it.
    """

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint


class Message(NamedTuple):
    """A signed message.

    Attributes:
        head: JSON, exactly as it was signed.
        signature: Of the head.
        payload: The bytes that the head has the digest of. They may be missing while they travel apart.
    """

    head: bytes
    signature: bytes
    payload: bytes = b""

    def pack(self) -> bytes:
        """Return it as bytes."""
        return b"".join(self.parts())

    def parts(self) -> tuple[bytes, ...]:
        """Return the bytes of which it is joined: a payload may be large, and is to be copied once."""
        return _LENGTHS.pack(_MAGIC, len(self.head), len(self.payload)), self.signature, *self[::2]

    @classmethod
    def unpack_all(cls, packed: bytes) -> list[Message]:
        """Return what ``pack`` was called on, for each of any number that were joined.

        Raises:
            Refused: If anything of it is nothing of the kind.
        """
        messages, view, start = [], memoryview(packed), 0
        while start < len(packed):
            end = start + _size_at(packed, start)
            messages.append(cls.unpack(view[start:end]))
            start = end
        return messages

    @classmethod
    def unpack(cls, packed: bytes | memoryview) -> Message:
        """Return what ``pack`` was called on.

        Raises:
            Refused: If it is nothing of the kind.
        """
        start = _LENGTHS.size + _DIGEST_BYTES
        try:
            magic, head, payload = _LENGTHS.unpack_from(packed)
        except struct.error:
            magic, head, payload = b"", 0, 0
        if magic != _MAGIC or len(packed) != start + head + payload:
            raise Refused("version", "it is no message of this version of lifepool", "use one version on all sides")
        view = memoryview(packed)
        return cls(bytes(view[start : start + head]), bytes(view[_LENGTHS.size : start]), bytes(view[start + head :]))


def _size_at(packed: bytes, start: int) -> int:
    try:
        _, head, payload = _LENGTHS.unpack_from(packed, start)
    except struct.error:
        head = payload = 0  # it is refused for its size
    return _LENGTHS.size + _DIGEST_BYTES + int(head) + int(payload)


class Signer:
    """Make and verify messages.

    Args:
        secret: What both sides share. None: messages are protected against accidents only.
    """

    def __init__(self, secret: str | None) -> None:
        self._key = secret.encode() if secret else _NO_KEY
        self.has_secret: bool = bool(secret)

    def sign(self, kind: str, fields: dict[str, Any], payload: bytes = b"") -> Message:
        """Make a message."""
        head = {"v": VERSION, "kind": kind, **fields}
        if payload:
            head["digest"], head["size"] = _digest(payload), len(payload)
        encoded = json.dumps(head, separators=(",", ":")).encode()
        return Message(encoded, self._signature(encoded), payload)

    def verify(self, message: Message, *kinds: str) -> dict[str, Any]:
        """Return the head of a message that is of one of these kinds and as it was signed.

        Raises:
            Refused: If it is not.
        """
        head = self.verify_head(message, *kinds)
        if head.get("digest", "") != (_digest(message.payload) if message.payload else ""):
            raise Refused("altered", "its payload is not the one that was signed")
        return head

    def verify_head(self, message: Message, *kinds: str) -> dict[str, Any]:
        """Return the head of a message whose payload is still to come.

        Raises:
            Refused: If it is not as it was signed, or of another kind.
        """
        if not hmac.compare_digest(message.signature, self._signature(message.head)):
            raise Refused("unsigned", "its signature is not ours", "is LIFEPOOL_SECRET the same on all sides?")
        head: dict[str, Any] = json.loads(message.head)  # it was signed, so one of us has made it
        if head.get("v") != VERSION:
            raise Refused("version", f"it is of version {head.get('v')!r}", "use one version of lifepool on all sides")
        if head["kind"] not in kinds:
            raise Refused("altered", f"it is a message of the kind {head['kind']!r}, which does not belong here")
        return head

    def _signature(self, head: bytes) -> bytes:
        return hmac.digest(self._key, head, "sha256")


def _digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()
