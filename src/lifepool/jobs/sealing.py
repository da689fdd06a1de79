"""The format in which arguments and results are stored: versioned, and signed if there is a secret.

::

    "L" version  encoding  "S"|"-"  [32 bytes HMAC-SHA256]  body

The signature covers the header, the job, whether it is arguments or a result, and the function's import path: a signed
value can't be put into another job, or under another function.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Literal

from lifepool.jobs.errors import JobNotCallable

if TYPE_CHECKING:
    from lifepool.jobs.values import Encoding

VERSION = b"1"
_HEADER = 4
_MAC = 32

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
        mac = b"" if self._key is None else _mac(self._key, header, role, job, function, body)
        return b"".join((header, mac, body))

    def open(self, role: Role, job: str, function: str, frame: bytes) -> tuple[str, memoryview]:
        """Return encoding and body of a frame.

        Raises:
            JobNotCallable: If it is of another version, was not signed with this secret, or must not be loaded.
        """
        header, view = bytes(frame[:_HEADER]), memoryview(frame)
        if len(header) < _HEADER or header[:1] != b"L":
            raise JobNotCallable(f"the stored {role} are no payload of lifepool")
        if header[1:2] != VERSION:
            found, own = header[1:2].decode(errors="replace"), VERSION.decode()
            raise JobNotCallable(f"the stored {role} have payload format {found}, this version reads {own}")
        encoding, signed = chr(header[2]), header[3:4] == b"S"
        if self._key is None:
            if encoding != "J":
                hint = "set LIFEPOOL_SECRET to the secret of the server that stored them"
                raise JobNotCallable(f"the stored {role} are a pickle, and there is no secret to check it", hint=hint)
            return encoding, view[_HEADER + (_MAC if signed else 0) :]
        if not signed:
            raise JobNotCallable(f"the stored {role} are not signed", hint="they were stored without LIFEPOOL_SECRET")
        body = view[_HEADER + _MAC :]
        if not hmac.compare_digest(view[_HEADER : _HEADER + _MAC], _mac(self._key, header, role, job, function, body)):
            hint = "LIFEPOOL_SECRET was changed, or somebody has changed the database"
            raise JobNotCallable(f"the signature of the stored {role} is wrong", hint=hint)
        return encoding, body


def _mac(key: bytes, header: bytes, role: str, job: str, function: str, body: bytes | memoryview) -> bytes:
    about = "\0".join((role, job, function)).encode()
    mac = hmac.new(key, header + len(about).to_bytes(4, "big") + about, "sha256")
    mac.update(body)
    return mac.digest()
