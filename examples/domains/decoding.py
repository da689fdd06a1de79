"""Bytes of a file, piece by piece, to chunks of text: gzip, character sets. No I/O in here.

Everything here has `feed(data)`, an iterator of results in small steps, so that the caller can let
others run in between, and `close()`, which gives what was kept back and checks that the input was
whole.
"""

import codecs
import zlib
from collections.abc import Iterator
from typing import Protocol

from examples.domains import charsets
from examples.domains.limits import Limits
from examples.domains.problems import Problem
from examples.domains.splitting import StreamSplitter

STEP = 1 << 18  # bytes a gunzip step may expand to: about 1 ms, so the loop stays responsive
RATIO_FREE = 1 << 20  # bytes that may expand at any ratio: small repetitive files pack very well
MEMBERS_FREE = 1000  # members of one gzip that may be of any size
LEAST_MEMBER = 100  # bytes that each one after these should have: what a member costs must be paid for
GZIP_MAGIC = b"\x1f\x8b"


class Stage(Protocol):
    """Bytes in, bytes out, in small steps."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take a piece; iterate over what came out."""

    def close(self) -> Iterator[bytes]:
        """Say that the input has ended."""


class Reader(Protocol):
    """Bytes in, chunks of text out, in small steps."""

    def feed(self, data: bytes) -> Iterator[list[str]]:
        """Take a piece; iterate over the chunks that are complete."""

    def close(self) -> Iterator[list[str]]:
        """Say that the input has ended; iterate over the last chunks."""


class Budget:
    """How much one request may expand to, over all its files and layers: many small bombs are one.

    Packed is what came over the wire; what one layer of gzip gives to the next is expanded already.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.expanded = self.packed = 0

    def for_one_file(self) -> "Budget":
        """Return the same for one gzip alone: its ratio must not be paid by other files of the request."""
        return Budget(self._limits)

    def receive(self, size: int) -> None:
        """Count `size` packed bytes."""
        self.packed += size

    def spend(self, size: int) -> None:
        """Count `size` expanded bytes.

        Raises:
            Problem: 413, the request expands to more than `max_expanded`, or is too densely packed.
        """
        self.expanded += size
        limits = self._limits
        if self.expanded > limits.max_expanded:
            raise Problem(
                413,
                f"The upload expands to more than {limits.max_expanded:,} bytes.",
                "Split the file, or raise DOMAINS_MAX_EXPANDED on the server.",
            )
        if self.expanded > max(RATIO_FREE, limits.max_ratio * self.packed):
            raise Problem(
                413,
                f"The gzip content expands more than {limits.max_ratio} times, like a decompression bomb.",
                "Send it unpacked, or raise DOMAINS_MAX_RATIO on the server.",
            )


class Plain:
    """Pass everything through."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield `data` itself."""
        yield data

    def close(self) -> Iterator[bytes]:
        """Return nothing: all was passed on."""
        return iter(())


class Gunzip:
    """Expand gzip, of one member or many, in steps of at most `STEP` bytes, and refuse bombs.

    Args:
        budget: The request's.
        is_inner: Whether what it is fed has been expanded by another one before.
    """

    def __init__(self, budget: Budget, *, is_inner: bool = False) -> None:
        self._budget = budget
        self._is_inner = is_inner
        self._own = budget.for_one_file()
        self._member = _new_member()
        self._fresh = True  # at the start of a member: the input may end only here
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield expanded pieces.

        Raises:
            Problem: 422 for broken gzip, 413 for too much or too densely packed content.
        """
        if not self._is_inner:
            self._budget.receive(len(data))
        self._own.receive(len(data))
        more = True
        while more:
            if self._fresh and self._members:
                data = data.lstrip(b"\0")  # padding between or after members is allowed
            if not data and self._fresh:
                return
            plain, data = self._step(data)
            self._budget.spend(len(plain))
            self._own.spend(len(plain))
            yield plain
            # A full step may leave output inside zlib although all the input is gone.
            more = bool(data) or len(plain) == STEP

    def close(self) -> Iterator[bytes]:
        """Check that the last member was whole.

        Raises:
            Problem: 422, the file was cut short.
        """
        if not self._fresh or not self._members:
            raise _broken_gzip("it ends in the middle")
        return iter(())

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            plain = self._member.decompress(data, STEP)
        except zlib.error as error:
            raise _broken_gzip(str(error)) from None
        self._fresh = self._member.eof
        if not self._member.eof:
            return plain, self._member.unconsumed_tail
        rest = self._member.unused_data
        self._members += 1
        if self._members > MEMBERS_FREE + self._own.packed // LEAST_MEMBER:
            raise Problem(413, "The gzip has too many parts for its size.", "Pack it again, in one piece.")
        self._member = _new_member()
        return plain, rest


class MaybeGunzip:
    """Expand what starts like gzip; pass everything else through."""

    def __init__(self, budget: Budget, *, is_inner: bool = False) -> None:
        self._budget = budget
        self._is_inner = is_inner
        self._head = b""
        self._stage: Stage | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield pieces, expanded if need be, once the first two bytes are known."""
        if self._stage is None:
            self._head = data = self._head + data
            if len(data) < len(GZIP_MAGIC):
                return
            is_gzip = data.startswith(GZIP_MAGIC)
            self._stage = Gunzip(self._budget, is_inner=self._is_inner) if is_gzip else Plain()
        yield from self._stage.feed(data)

    def close(self) -> Iterator[bytes]:
        """Yield a file of a single byte, or check that the gzip was whole."""
        return iter((self._head,)) if self._stage is None else self._stage.close()


class NoGzip:
    """Refuse what is still gzip after it was expanded: one layer for a file is enough.

    Raises:
        Problem: 415, this is gzip inside of gzip.
    """

    def __init__(self) -> None:
        self._head: bytes | None = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is no gzip, once the first two bytes are known."""
        if self._head is not None:
            data = self._head + data
            if len(data) < len(GZIP_MAGIC):
                self._head = data
                return
            if data.startswith(GZIP_MAGIC):
                raise Problem(415, "The file is gzip inside of gzip.", "Unpack it once before you send it.")
            self._head = None
        yield data

    def close(self) -> Iterator[bytes]:
        """Yield a file of a single byte."""
        return iter((self._head,) if self._head else ())


class Text:
    """Decode bytes and cut the text between names.

    Without a charset: UTF-8, or UTF-16 where its byte order mark says so. Bytes that are not text
    in that charset become U+FFFD, which is no part of any name.

    Raises:
        Problem: 415, there is no such charset.
    """

    def __init__(self, charset: str | None) -> None:
        self._head = b""
        self._decoder = None if charset is None else _decoder(charset)
        self._splitter = StreamSplitter()

    def feed(self, data: bytes) -> Iterator[list[str]]:
        """Yield the chunks that are complete."""
        yield self._splitter.feed(self._decode(data))

    def close(self) -> Iterator[list[str]]:
        """Yield the rest."""
        yield self._splitter.feed(self._decode(b"", final=True))
        yield self._splitter.close()

    def _decode(self, data: bytes, *, final: bool = False) -> str:
        if self._decoder is None:
            self._head = data = self._head + data
            if len(data) < 2 and not final:
                return ""
            is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            self._decoder = _decoder("utf-16" if is_utf16 else "utf-8")
        try:
            return self._decoder.decode(data, final)
        except UnicodeError as error:  # UTF-16 by name and no byte order mark: which order?
            detail = f"The text cannot be decoded: {error}."
            raise Problem(422, detail, "Say utf-16-le or utf-16-be.") from None


class Unpacked:
    """A reader behind a stage that unpacks its bytes."""

    def __init__(self, stage: Stage, reader: Reader) -> None:
        self._stage = stage
        self._reader = reader

    def feed(self, data: bytes) -> Iterator[list[str]]:
        """Yield the chunks that are complete."""
        for plain in self._stage.feed(data):
            yield from self._reader.feed(plain)

    def close(self) -> Iterator[list[str]]:
        """Yield the rest."""
        for plain in self._stage.close():
            yield from self._reader.feed(plain)
        yield from self._reader.close()


def _new_member() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=31)  # 31: a gzip header and its checksum, and nothing else


def _broken_gzip(why: str) -> Problem:
    return Problem(422, f"The gzip content is damaged: {why}.", "Check the file with `gzip -t`.")


def _decoder(charset: str) -> codecs.IncrementalDecoder:
    name = charsets.codec_of(charset)
    if name is None:
        raise Problem(415, f"There is no charset {charset!r:.60} here.", "Use charset=utf-8, or leave it out.")
    return codecs.getincrementaldecoder("utf-8-sig" if name == "utf_8" else name)("replace")
