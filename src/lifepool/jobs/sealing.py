"""The format in which arguments and results are stored: versioned, and signed if there is a secret.

::

    "L" version  encoding  "S"|"-"  [32 bytes HMAC-SHA256]  body

The signature covers the header, the job, whether it is arguments or a result, and the function's import path: a signed
value can't be put into another job, or under another function.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Literal, NamedTuple

from lifepool.jobs.errors import JobNotCallable
from lifepool.jobs.values import ENCODINGS

if TYPE_CHECKING:
    from lifepool.jobs.values import Encoding

VERSION = b"1"
_PLAIN_HEADER = 4
#: Bytes before the body, at most: with a signature.
MAX_HEADER = _PLAIN_HEADER + 32

Role = Literal["arguments", "result"]


class Sealer:
    """Puts bodies into frames and takes them out, having checked them.

    Args:
        secret: ``LIFEPOOL_SECRET``. With one everything is signed, and nothing unsigned is accepted: whoever can write
            to the database could else have any function called. None: nothing is signed, and pickles are refused.
    """

    def __init__(self, secret: str | None) -> None:
        self._key = None if not secret else hashlib.sha256(b"lifepool jobs\0" + secret.encode()).digest()

    @property
    def signs(self) -> bool:
        """Whether there is a secret."""
        return self._key is not None

    def seal(self, role: Role, job: str, function: str, encoding: Encoding, body: bytes) -> bytes:
        """Return the frame that is stored."""
        header = b"".join((b"L", VERSION, encoding.encode(), b"-" if self._key is None else b"S"))
        if self._key is None:
            return header + body
        mac = _hmac(self._key, header, role, job, function)
        mac.update(body)
        return b"".join((header, mac.digest(), body))

    def open(self, role: Role, job: str, function: str, frame: bytes) -> tuple[Encoding, memoryview]:
        """Return encoding and body of a frame.

        Raises:
            JobNotCallable: If it is of another version, was not signed with this secret, or must not be loaded.
        """
        header = self.read_header(role, frame)
        body = memoryview(frame)[header.size :]
        check = self.checking(role, job, function, header)
        if check is not None:
            check.update(body)
            check.finish()
        return header.encoding, body

    def read_header(self, role: Role, start: bytes) -> Header:
        """Read what a frame begins with.

        Args:
            role: What the frame is.
            start: Its first ``MAX_HEADER`` bytes, or more.

        Raises:
            JobNotCallable: If it is of another version, is not signed though there is a secret, or must not be loaded.
        """
        plain = bytes(start[:_PLAIN_HEADER])
        if len(plain) < _PLAIN_HEADER or plain[:1] != b"L":
            raise JobNotCallable(f"the stored {role} are no payload of lifepool")
        if plain[1:2] != VERSION:
            found, own = plain[1:2].decode(errors="replace"), VERSION.decode()
            raise JobNotCallable(f"the stored {role} have payload format {found}, this version reads {own}")
        encoding, is_signed = chr(plain[2]), plain[3:4] == b"S"
        if encoding not in ENCODINGS:
            raise JobNotCallable(f"the stored {role} have the encoding {encoding!r}, which this version does not know")
        if self._key is None and encoding == "P":
            hint = "set LIFEPOOL_SECRET to the secret of the server that stored them"
            raise JobNotCallable(f"the stored {role} are a pickle, and there is no secret to check it", hint=hint)
        if self._key is not None and not is_signed:
            raise JobNotCallable(f"the stored {role} are not signed", hint="they were stored without LIFEPOOL_SECRET")
        mac = bytes(start[_PLAIN_HEADER:MAX_HEADER]) if is_signed else b""
        return Header(plain, encoding, mac)

    def checking(self, role: Role, job: str, function: str, header: Header) -> Check | None:
        """Return what checks the signature over a body, given piece by piece; None if there is no secret."""
        if self._key is None:
            return None
        return Check(_hmac(self._key, header.plain, role, job, function), header.mac, role)


class Header(NamedTuple):
    """What a frame begins with.

    Attributes:
        plain: Its first bytes, which are signed too.
        encoding: Of the body.
        mac: The signature; empty if there is none.
    """

    plain: bytes
    encoding: Encoding
    mac: bytes

    @property
    def size(self) -> int:
        """Bytes before the body."""
        return len(self.plain) + len(self.mac)


class Check:
    """Checks a signature."""

    def __init__(self, hasher: hmac.HMAC, mac: bytes, role: Role) -> None:
        self._hasher = hasher
        self._mac = mac
        self._role = role

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the body."""
        self._hasher.update(piece)

    def finish(self) -> None:
        """Compare, when all pieces were given.

        Raises:
            JobNotCallable: If the signature is wrong.
        """
        if not hmac.compare_digest(self._mac, self._hasher.digest()):
            hint = "LIFEPOOL_SECRET was changed, or somebody has changed the database"
            raise JobNotCallable(f"the signature of the stored {self._role} is wrong", hint=hint)


def _hmac(key: bytes, header: bytes, role: str, job: str, function: str) -> hmac.HMAC:
    about = "\0".join((role, job, function)).encode()
    return hmac.new(key, header + len(about).to_bytes(4, "big") + about, "sha256")
