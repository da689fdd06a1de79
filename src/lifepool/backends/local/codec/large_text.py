"""Large texts, copied without the interpreter's lock or in pieces, so that the event loop goes on meanwhile.

``pickle`` makes ``bytes`` of a text before it writes it, and decodes it in one go when it reads it, both under the lock
and into memory that has to be faulted in page by page: 64 MiB stopped the loop for 45 ms. Here a large text is pickled
as a call of ``rebuild`` with its UTF-8. That of an ASCII text is its own memory; other texts are encoded and decoded
piece by piece.

Only functions of CPython's public C interface are used, through ``ctypes``: a text may be made by ``PyUnicode_New`` and
filled before anybody else has seen it. Where they are missing, texts are pickled as always.
"""

from __future__ import annotations

import codecs
import contextlib
import mmap
import pickle
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool.backends.local.shared.copying import HUGE_PAGES, address_of, move, prepare_fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: ASCII texts of at least this many characters are treated so: less would not be copied in a thread anyway.
LARGE = 2 * 1024 * 1024
#: Other texts. To encode and decode them in pieces takes a third longer, until page faults outweigh that.
LARGE_OTHER = 8 * 1024 * 1024
#: Characters, or bytes, that are encoded or decoded in one piece: some tenths of a millisecond under the lock.
_PIECE = 256 * 1024

_ENCODING, _ERRORS = "utf-8", "surrogatepass"  # what pickle uses

_WRITABLE = 0x200  # PyBUF_WRITE
#: The most bytes of UTF-8 for a character, by the bytes that each takes in memory.
_MOST_BYTES = {1: 2, 2: 3}

_ASCII = 0x7F
#: The greatest character that a text may have, by the bytes that each of its characters takes.
_WIDEST = {1: 0xFF, 2: 0xFFFF, 4: 0x10FFFF}


class _Functions(NamedTuple):
    """Of CPython's C interface."""

    new: Callable[[int, int], str]
    utf8: Callable[[str, None], int]
    copy: Callable[[int, int, str, int, int], int]
    view: Callable[[int, int, int], memoryview]


def _functions() -> _Functions | None:
    try:
        return _load_functions()
    except OSError:  # no descriptor is left to import ctypes with: another time
        return None


@cache
def _load_functions() -> _Functions | None:
    try:
        import ctypes

        api = ctypes.pythonapi
        # By index they are our own; as attributes they, and the types that are set below, are everybody's.
        new, utf8 = api["PyUnicode_New"], api["PyUnicode_AsUTF8AndSize"]
        copy, view = api["PyUnicode_CopyCharacters"], api["PyMemoryView_FromMemory"]
    except (ImportError, AttributeError):
        return None
    size = ctypes.c_ssize_t
    new.argtypes, new.restype = (size, ctypes.c_uint32), ctypes.py_object
    utf8.argtypes, utf8.restype = (ctypes.py_object, ctypes.c_void_p), ctypes.c_void_p
    # The target by its address: as an object it would have one reference more, and a text that is shared is read-only.
    copy.argtypes, copy.restype = (ctypes.c_void_p, size, ctypes.py_object, size, size), size
    view.argtypes, view.restype = (ctypes.c_void_p, size, ctypes.c_int), ctypes.py_object
    return _Functions(new, utf8, copy, view)


class LargeText:
    """In place of a text while it is pickled; unpickled, it is the text.

    Args:
        text: The text; it is kept while its memory is read.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __reduce__(self) -> tuple[Any, ...]:
        text, functions = self._text, _functions()
        if text.isascii() and functions is not None:
            # Writable, though nobody writes: only the address of a writable buffer can be had.
            own = functions.view(functions.utf8(text, None), len(text), _WRITABLE)
            return rebuild, (pickle.PickleBuffer(own), len(text), _ASCII)
        most = _MOST_BYTES.get(sys.getsizeof(text) // len(text), 4)
        try:
            # Memory that is there when it is written to: a BytesIO would be copied as it grows, a bytearray be zeroed.
            memory = mmap.mmap(-1, most * len(text), flags=mmap.MAP_PRIVATE)
        except (OSError, MemoryError):  # more than this process may have
            return str, (text,)
        if HUGE_PAGES is not None:
            with contextlib.suppress(OSError):  # a kernel without them
                memory.madvise(HUGE_PAGES)
        size, width = 0, 1
        for piece in _pieces(text):
            encoded = piece.encode(_ENCODING, _ERRORS)
            memory[size : size + len(encoded)] = encoded
            size += len(encoded)
            width = max(width, sys.getsizeof(piece) // len(piece))
        return rebuild, (pickle.PickleBuffer(memoryview(memory)[:size]), len(text), _WIDEST[width])


def _pieces(text: str) -> Iterator[str]:
    """Yield equal parts, so that none is so short that its size tells nothing of its characters' width."""
    step = -(-len(text) // -(-len(text) // _PIECE))
    return (text[start : start + step] for start in range(0, len(text), step))


def placeholder(value: Any) -> Any:
    """Return what to pickle instead of a value."""
    if type(value) is not str or len(value) < LARGE or _functions() is None:
        return value
    return LargeText(value) if value.isascii() or len(value) >= LARGE_OTHER else value


def placeholders(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what to pickle instead of these; a text that is there twice is pickled once, as by ``pickle``."""
    made: dict[int, Any] = {}
    return tuple(made.setdefault(id(value), placeholder(value)) for value in values)


def rebuild(data: bytearray, length: int, widest: int) -> str:
    """Return the text that was pickled.

    Args:
        data: Its UTF-8.
        length: Its characters.
        widest: The greatest character that a text of its width may have; more exactly, ``PyUnicode_New``'s ``maxchar``.

    Raises:
        UnicodeDecodeError: If it is none.
    """
    functions = _functions()
    if functions is not None:
        with contextlib.suppress(SystemError):  # it is not what was said, or somebody else has a reference to our text
            return _rebuild(functions, data, length, widest)
    return data.decode(_ENCODING, _ERRORS)


def _rebuild(functions: _Functions, data: bytearray, length: int, widest: int) -> str:
    text = functions.new(length, widest)
    if widest == _ASCII and len(data) == length:
        start = functions.utf8(text, None)
        prepare_fresh(start, length)
        move(start, address_of(data), length)
        return text
    prepare_fresh(id(text), sys.getsizeof(text))
    start = at = 0
    with memoryview(data) as source:
        while start < len(data):
            is_last = start + _PIECE >= len(data)
            piece, used = codecs.utf_8_decode(source[start : start + _PIECE], _ERRORS, is_last)
            at += functions.copy(id(text), at, piece, 0, len(piece))
            start += used
    if at != length:
        raise SystemError(f"{at} characters, not {length}")
    return text
