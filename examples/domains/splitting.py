"""Cut a text into pieces that can be searched separately, without losing or cutting a single name.

White space is in no name and no rule of the extractor looks across it, so a text may be cut at any white space:
`find_domains` over the pieces gives the same list as over the whole. `split_on_whitespace` does that for a text in
memory, `StreamSplitter` for one that arrives bit by bit and may be larger than memory.
"""

import re

from examples.domains.extract import CONTEXT, MAX_RUN, runs

__all__ = ["LEAST_TOKEN", "LONGEST_PIECE", "MIN_CHUNK", "StreamSplitter", "chunk_count", "split_on_whitespace"]

# Characters. The extractor reads 20 to 40 million characters of prose a second (measured), so this
# is about 1 ms of work, where one more task costs 0.2 ms of round trip: below it a split gains little.
MIN_CHUNK = 32 * 1024

_WHITESPACE = re.compile(r"\s")
_FIRST_DOT = re.compile(r"[.\uff0e\u3002\uff61\[({\\%]")

# Characters. What is left of a run that is too long to be a name must still be too long, even when
# the cut went through a bracketed dot and its remains fall off.
_OVERLONG = MAX_RUN + 16
LEAST_TOKEN = 8 * _OVERLONG  # so that a forced cut takes most of what is kept

PIECE, TOKEN = 256 * 1024, 64 * 1024  # characters of a piece of a stream; of text without white space in it
LONGEST_PIECE = PIECE + TOKEN


def chunk_count(length: int, workers: int) -> int:
    """Return how many chunks a text is worth: one for a small text, at most one a worker.

    Args:
        length: Of the text, in characters.
        workers: That could share the work.
    """
    return max(1, min(workers, length // MIN_CHUNK))


def split_on_whitespace(text: str, count: int) -> list[str]:
    """Cut `text` into at most `count` chunks of about equal size, at white space alone.

    Nothing is lost, `"".join(chunks) == text`, and no name is cut. A text without white space is one chunk.

    Raises:
        ValueError: `count` is less than one.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    chunks = []
    start = 0
    for i in range(1, count):
        space = _WHITESPACE.search(text, max(start, len(text) * i // count))
        if space is None:
            break
        if space.end() > start:
            chunks.append(text[start : space.end()])
            start = space.end()
    if start < len(text) or not chunks:
        chunks.append(text[start:])
    return chunks


class StreamSplitter:
    """Cut a stream of text into pieces, holding at most `piece_size + max_token` characters.

    Searching the pieces in order finds what searching the whole would, however the stream was fed.
    Pieces end at white space, and together they are the text. Only where `max_token` characters
    pass without white space (base64, a minified script) is a piece cut between two runs that could
    be names; the few characters that both sides may look at are then in both. A run too long to be
    a name is cut inside: both halves are still too long.

    Args:
        piece_size: Least length of a piece, in characters; the last may be shorter.
        max_token: Length of text without white space that is waited for, in characters.

    Raises:
        ValueError: A size is too small: `max_token` must hold several of the longest runs.
    """

    def __init__(self, piece_size: int = PIECE, max_token: int = TOKEN) -> None:
        if piece_size < 1 or max_token < LEAST_TOKEN:
            raise ValueError(
                f"piece_size must be at least 1 and max_token at least {LEAST_TOKEN} characters, "
                f"not {piece_size} and {max_token}"
            )
        self._piece_size = piece_size
        self._limit = piece_size + max_token
        self._parts: list[str] = []
        self._length = 0
        self._wanted = piece_size  # the length at which a cut is tried next, so that none is tried often

    def feed(self, text: str) -> list[str]:
        """Take the next part of the stream and return the pieces that are complete."""
        self._parts.append(text)
        self._length += len(text)
        if self._length < self._wanted:
            return []
        joined = "".join(self._parts)
        pieces = []
        start = 0
        while (cut := self._find_cut(joined, start)) is not None:
            end, next_start = cut
            pieces.append(joined[start:end])
            start = next_start
        self._keep(joined[start:])
        # A piece is long enough but has no end in sight: look again when it must be cut anywhere.
        self._wanted = self._piece_size if self._length < self._piece_size else self._limit
        return pieces

    def close(self) -> list[str]:
        """Return what is left as the last piece, if anything is."""
        rest = "".join(self._parts)
        self._keep("")
        self._wanted = self._piece_size
        return [rest] if rest else []

    def _keep(self, rest: str) -> None:
        self._parts = [rest]
        self._length = len(rest)

    def _find_cut(self, text: str, start: int) -> tuple[int, int] | None:
        """Return where the piece from `start` ends and the next begins, or None to wait for more."""
        limit = start + self._limit
        space = _WHITESPACE.search(text, start + self._piece_size - 1, limit)
        if space is not None:
            return space.end(), space.end()
        if len(text) < limit:
            return None
        end, next_start = _cut_without_whitespace(text[start:limit])
        return start + end, start + next_start


def _cut_without_whitespace(text: str) -> tuple[int, int]:
    """Return the end of the first part and the start of the second, which may overlap.

    The overlap holds no name: it is made of the characters between two runs that the rules for
    either may look at, and at most the first label of the second, never its dot.
    """
    cut = len(text) - 2 * _OVERLONG  # a run that begins before this and reaches the end is overlong
    last_end = 0
    first, last = len(text), len(text)  # of the run that ends behind the cut
    for start, end in runs(text):
        if end > cut:
            first, last = start, end
            break
        last_end = end
    if first < cut:
        if last - first >= 2 * _OVERLONG:
            cut = min(max(cut, first + _OVERLONG), last - _OVERLONG)
            return cut, cut
        cut = first
    first_dot = _FIRST_DOT.search(text, first)
    end = min(cut + CONTEXT, first_dot.start() if first_dot else len(text))
    return end, max(cut - CONTEXT, last_end - 1, 0)
