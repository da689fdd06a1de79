"""Texts with as many bytes for each character as they have in memory, rather than as the UTF-8 that ``pickle`` makes.

To make UTF-8 and to read it takes some 0.7 ms a MiB each, unless the text is ASCII: more than all copies together. It
also happens in one go, under the interpreter's lock. Here a text is encoded and decoded by codecs that mostly copy, and
piece by piece if it is large. In shared memory it lies beside the pickle (``codec/out_of_band.py``), so that it is
decoded from there without another copy.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from lifepool.backends.local.shared.copying import keep_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Texts of at least this many characters are encoded so; ASCII, whose UTF-8 is a copy, from ``LARGE_ASCII`` on, where
#: shared memory begins.
LARGE = 4 * 1024
LARGE_ASCII = 64 * 1024
#: Texts with four bytes a character, most of them ASCII with a few emoji: below this, UTF-8 takes less time as it is
#: shorter; above, pieces matter, as the event loop must go on.
LARGE_WIDE = 2 * 1024 * 1024

#: Characters that are encoded in one go, and bytes that are decoded: about a millisecond under the lock.
_PIECE = 256 * 1024
_PIECE_READ = 2 * 1024 * 1024
#: With one byte each no more: the bytes stay in the processor's cache until they are copied. Wider ones cost more to
#: cut out than that saves.
_NARROW_PIECE = 64 * 1024

#: By bytes for each character. UTF-16 has no lone surrogates: a text with some takes four bytes each.
_CODECS = {1: ("latin-1", "strict"), 2: ("utf-16-le", "strict"), 4: ("utf-32-le", "surrogatepass")}
_WIDEST = 4
#: What stands at the end of the bytes of ASCII: its codec looks at them as it copies, that of Latin-1 before.
_ASCII = 0
_READ = {**_CODECS, _ASCII: ("ascii", "strict")}


class Rewindable(Protocol):
    """A file that can be written anew from some point on."""

    size: int

    def write(self, data: Any, /) -> int:
        """Write all of ``data``; return its length."""


class LargeText:
    """In place of a text while it is pickled; unpickled, it is the text.

    Args:
        text: The text.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    def likely_bytes(self) -> int:
        """Guess how many bytes it takes."""
        return len(self._text) * _likely_width(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it with its bytes in the pickle, for the socket."""
        parts = _Parts()
        self.write_to(parts)
        return read_text, (b"".join(parts.written),)

    def write_to(self, file: Rewindable) -> None:
        """Write what ``read_text`` reads.

        Raises:
            Exception: Whatever the file raises.
        """
        start = file.size
        likely = _likely_width(self._text)
        for width in _CODECS:
            if width < likely:
                continue
            keep_memory(width * min(len(self._text), _PIECE))
            try:
                for piece in self._pieces(width):
                    file.write(piece)
            except UnicodeEncodeError:
                file.size = start
            else:
                file.write(bytes((_ASCII if width == 1 and self._text.isascii() else width,)))
                return

    def _pieces(self, width: int) -> Iterator[bytes]:
        """Encode the text.

        Raises:
            UnicodeEncodeError: If a character takes more than ``width`` bytes.
        """
        codec, errors = _CODECS[width]
        size = _NARROW_PIECE if width == 1 else _PIECE
        for start in range(0, len(self._text), size):
            piece = self._text[start : start + size]
            encoded = piece.encode(codec, errors)
            if len(encoded) != width * len(piece):
                raise UnicodeEncodeError(codec, piece, 0, len(piece), "characters of two units")
            yield encoded


class _Parts:
    """What was written, in memory."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    @property
    def size(self) -> int:
        return len(self.written)

    @size.setter
    def size(self, size: int) -> None:
        del self.written[size:]

    def write(self, data: bytes) -> int:
        self.written.append(data)
        return len(data)


def _likely_width(text: str) -> int:
    """Guess the bytes a character; no more than a hint, as a text may also keep its UTF-8."""
    return min(sys.getsizeof(text, 0) // len(text), _WIDEST)


def placeholder(value: Any) -> Any:
    """Return what to pickle instead of a value."""
    if type(value) is not str or len(value) < LARGE:
        return value
    if value.isascii():
        return LargeText(value) if len(value) >= LARGE_ASCII else value
    if _likely_width(value) < _WIDEST or len(value) >= LARGE_WIDE:
        return LargeText(value)
    keep_memory(_WIDEST * len(value))  # as many bytes has the text that is made of its UTF-8
    return value


def placeholders(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what to pickle instead of these; a text that is there twice is pickled once, as by ``pickle``."""
    made: dict[int, Any] = {}
    return tuple(made.setdefault(id(value), placeholder(value)) for value in values)


def likely_bytes(values: tuple[Any, ...], estimate: int) -> int:
    """Return the larger of an estimate and what the large texts among these values take."""
    return max(estimate, sum([value.likely_bytes for value in values if type(value) is LargeText]))


def read_text(data: bytes | memoryview) -> str:
    """Return a text that was written; the buffer is released."""
    with memoryview(data) as view:
        codec, errors = _READ[view[-1]]
        if len(view) <= _PIECE_READ:
            return str(view[:-1], codec, errors)
        text = ""
        for start in range(0, len(view) - 1, _PIECE_READ):
            # CPython appends to a text in place as long as nobody else has it.
            text += str(view[start : min(start + _PIECE_READ, len(view) - 1)], codec, errors)
        return text
