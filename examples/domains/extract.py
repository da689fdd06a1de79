"""Find every domain name in a text, in time linear in its length.

A name here is what a careful analyst would copy out of the text: a host or domain name with a real public suffix,
found in prose, URLs, e-mail addresses, logs or defanged reports (`example[.]com`). What is promised:

- **Order and number are those of the text.** Duplicates are kept; counting is the caller's business.
- **Normalized**: lower case, no trailing dot, defanging undone, IDNA (UTS-46) applied. International names come out
  in their Unicode form, as people write and read them, so `MÜNCHEN.de`, `xn--mnchen-3ya.de` and `münchen。de` are one
  name; `to_ascii` gives the A-label form, for look-ups and to unmask look-alikes.
- **Linear time**: one pass of a pattern that cannot back-track, and bounded work on each match.
- **Local**: nothing looks across white space, and whether a run of characters is a name depends on that run and the
  few characters beside it (`CONTEXT`), up to the next dot. `splitting` is built on that.

The rules, each one tested: the suffix must be in the ICANN section of the public suffix list, with a label before it
(private suffixes such as `github.io` are ordinary names). Labels have 1 to 63 octets and no hyphen at either end, a
name at most 253; one bad label refuses the name rather than cutting it down to another. Underscores may stand left of
the registrable domain (`_dmarc.example.com`, but not `foo_bar.com`). An IPv4 address, the local part of an e-mail
address and the user of a URL are no names. A *bare* name that looks like a file or code is left out (`bare_names`).
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from examples.domains.bare_names import is_doubtful

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

__all__ = ["CONTEXT", "MAX_RUN", "find_domains", "runs", "to_ascii", "warm_up"]

MAX_NAME = 253  # octets in A-label form, without the root's dot (RFC 1035).
MAX_RUN = 1024  # characters. A longer unbroken run holds no name: 253 octets, dots written as "[dot]", room to spare.
CONTEXT = 80  # characters beside a run that may be read; the longest reader, _MAILBOX, takes 66.

_BRACKETED_DOT = r"[\[({](?:\.|[dD][oO][tT])[\])}]"
# The last two are a dot escaped for a regular expression ("www\.example\.com") and for a URL.
_DOT = rf"(?:[.\uff0e\u3002\uff61]|{_BRACKETED_DOT}|\\\.|%2[eE])"
_ONE_DOT = re.compile(_DOT)
_ESCAPED_DOT = re.compile(r"\\\.|%2[eE]")
_UP_TO_LAST_DOT = re.compile(rf".*{_DOT}")
_BRACKETED = re.compile(_BRACKETED_DOT)
_ASCII_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

# Thai, Lao, Myanmar, Khmer, kana, Han and Hangul: written without spaces, or with endings glued on.
# A change between these and Latin letters or digits ends a word ("访问example.com吧"); labels that mix
# them are given up for that. Browsers take the ideographic full stop for a dot, and so do we, unless it
# stands at such a change in a run that has plain dots as well: "你好。example.com" is a sentence's end.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u318f\u3400-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
_LATIN = "a-zA-Z0-9"
_WORD_END = re.compile(rf"(?<=[{_LATIN}])(?=[{_UNSPACED}])|(?<=[{_UNSPACED}])(?=[{_LATIN}])")
_SENTENCE_END = re.compile(
    rf"(?<=[{_LATIN}])[\u3002\uff61]?(?=[{_UNSPACED}])"
    rf"|(?<=[{_UNSPACED}])[\u3002\uff61]?(?=[{_LATIN}])"
)

# What may stand beside a run. None of these reads past a dot or white space: the splitter cuts there.
_HOST_AHEAD = re.compile(r"(?://|[\w+](?:@|[\[({](?:@|[aA][tT])[\])}]))[\[\])}]?\Z")
_MAILBOX = re.compile(r"@|[\[({](?:@|[aA][tT])[\])}]|[+=][\w+=-]{0,64}@")
_USERINFO = re.compile(r":(?:[^\s/?#@%.\uff0e\u3002\uff61\[({]|%(?!2[eE])){0,64}@")
# Leftovers of encodings in front of a name: %2Fwww, %253Dwww, \nwww, \u003cwww.
_PERCENT = re.compile(r"(?:25)*(?:2[0-9a-fA-F]|3[a-fA-F]|40|0[9aAdD]|5[b-dB-D]|7[b-dB-D])")
_BACKSLASH = re.compile(r"u00[0-9a-fA-F]{2}|x[0-9a-fA-F]{2}|[nrt]")


def find_domains(text: str) -> list[str]:
    """Return every domain name in `text`, in order of appearance, duplicates kept.

    Args:
        text: Any string of any length; HTML, JSON or code are read as the text they are.

    Returns:
        Normalized names: lower case, Unicode (UTS-46) form, no trailing dot.
    """
    return [name for start, end in runs(text) if end - start <= MAX_RUN for name in _names(text, start, end)]


def runs(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of the maximal runs of labels joined by dots: all that could be a name."""
    overlong = None  # a run that the pattern may not have seen the end of
    for match in _run_pattern().finditer(text):
        start, end = match.span()
        if overlong is not None:
            if _ONE_DOT.fullmatch(text, overlong[1], start):
                overlong = overlong[0], end
                continue
            yield overlong
            overlong = None
        if end - start > MAX_RUN:
            overlong = start, end
        else:
            yield start, end
    if overlong is not None:
        yield overlong


def to_ascii(name: str) -> str:
    """Return the A-label form of a domain name: `münchen.de` becomes `xn--mnchen-3ya.de`.

    Raises:
        ValueError: `name` is not a valid domain name.
    """
    forms = _normalize(name)
    if forms is None:
        raise ValueError(f"{name!r} is not a domain name; pass one that find_domains returned")
    return forms[1]


def warm_up() -> None:
    """Load the suffix list and the IDNA tables, so that the first text is as quick as the others (about 30 ms once)."""
    find_domains("bücher.example.com")


def _names(text: str, start: int, end: int) -> Iterator[str]:
    """Judge one run: no name or one, several where scripts change inside it."""
    written = text[start:end]
    if written.endswith("_"):  # Markdown: "_example.com_", "_See example.com._"
        written = written.strip("_.")
    if written.isascii():
        # Almost every run ends here: "e.g", "3.14", "os.path".
        last_label = _UP_TO_LAST_DOT.sub("", written).lstrip(")]}")
        if last_label.lower() not in _top_level():
            return
        parts = [written]
    else:
        parts = (_SENTENCE_END if "." in written else _WORD_END).split(written)
    before = [""] * len(parts)
    after = [""] * len(parts)
    before[0] = text[max(0, start - 8) : start]
    after[-1] = text[end : end + CONTEXT]
    for part, left, right in zip(parts, before, after, strict=True):
        if _ONE_DOT.search(part) and (name := _name(part, left, right)):
            yield name


def _name(part: str, before: str, after: str) -> str | None:
    """Return the normalized name that `part` is, or None."""
    host_ahead = _HOST_AHEAD.search(before)
    if _MAILBOX.match(after) or (host_ahead and _USERINFO.match(after)):
        return None
    plain, defanged = _BRACKETED.subn(".", _without_escape(part, before))
    plain = _ESCAPED_DOT.sub(".", plain).rstrip("_.")
    parsed = _parse(plain)
    if parsed is None:
        return None
    name, ascii_name, registrable = parsed
    bare = not (host_ahead or defanged or name.startswith("www"))
    shown = plain.lstrip("_.") if plain.isascii() else ascii_name
    if bare and is_doubtful(shown, registrable, before[-1:], after[:1]):
        return None
    return name


def _parse(written: str) -> tuple[str, str, str] | None:
    """Return a name in Unicode and in ASCII, and its registrable domain in ASCII; None if it is no name."""
    forms = _normalize(written)
    if forms is None:
        return None
    name, ascii_name = forms
    registrable = _registrable(ascii_name)
    if registrable is None:
        return None
    if name.startswith("__") or (name.startswith("_") and registrable == ascii_name):
        return _parse(name.lstrip("_."))  # Markdown again; but "_dmarc.example.com" is a name
    return None if "_" in registrable else (name, ascii_name, registrable)


def _without_escape(part: str, before: str) -> str:
    """Take off what an encoding left in front of a name: the `2F` of `%2Fwww.example.com`."""
    if before.endswith("%"):
        escape = _PERCENT.match(part)
    elif before.endswith("\\") and not before.endswith("\\\\"):
        escape = _BACKSLASH.match(part)
    else:
        return part
    return part[escape.end() :].lstrip(".") if escape else part


def _normalize(name: str) -> tuple[str, str] | None:
    """Return the Unicode and the A-label form of a name, or None if it breaks a rule on labels or lengths."""
    lowered = name.lower()
    if lowered.isascii() and "xn--" not in lowered:
        return (lowered, lowered) if _is_ascii_name(lowered) else None
    import idna  # its tables are large, and most texts never need them

    try:
        labels = idna.uts46_remap(name, std3_rules=False).removesuffix(".").split(".")
        pairs = [_label_forms(label) for label in labels]
    except UnicodeError:  # idna.IDNAError is one
        return None
    unicode_name, ascii_name = (".".join(form) for form in zip(*pairs, strict=True))
    return (unicode_name, ascii_name) if _is_ascii_name(ascii_name) else None


@lru_cache(maxsize=1 << 13)  # labels have at most 63 characters here, and "рф" comes again and again
def _label_forms(label: str) -> tuple[str, str]:
    """Return the Unicode and A-label form of one mapped label; raises UnicodeError if it has none."""
    import idna

    if len(label) > 63:  # before Punycode, whose cost grows faster than the length
        raise UnicodeError("label too long")
    if not label.isascii():
        return label, idna.alabel(label).decode("ascii")
    if not label.startswith("xn--"):
        return label, label
    try:
        decoded = idna.ulabel(label)
    except idna.InvalidCodepoint:
        # Registered before IDNA 2008, emoji for one: it resolves, but is safe to show only as an A-label.
        label[4:].encode("ascii").decode("punycode")
        return label, label
    if idna.alabel(decoded).decode("ascii") != label:
        raise UnicodeError("another spelling of an A-label, which names nothing")
    return decoded, label


def _is_ascii_name(name: str) -> bool:
    return len(name) <= MAX_NAME and _ASCII_NAME.fullmatch(name) is not None


@lru_cache(maxsize=1 << 15)  # a few MB; texts repeat their names
def _registrable(name: str) -> str | None:
    """Return the part of an A-label name that somebody registered: `example.co.uk` of `www.example.co.uk`."""
    return _suffixes().privatesuffix(name)


@cache
def _suffixes() -> "PublicSuffixList":
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(only_icann=True, accept_unknown=False)


@cache
def _top_level() -> frozenset[str]:
    """Return the last label of every rule, for a quick look before the full one (a tenth of its time).

    Some top levels, `.za` for one, are in the list only through what is below them.
    """
    from publicsuffixlist import PSLFILE

    icann = Path(PSLFILE).read_text(encoding="utf-8").partition("===END ICANN DOMAINS===")[0]
    rules = (line.strip() for line in icann.splitlines() if not line.startswith("//"))
    labels = {rule.rpartition(".")[2] for rule in rules if rule}
    return frozenset(label.encode("idna").decode("ascii") for label in labels)


@cache
def _run_pattern() -> re.Pattern[str]:
    """Compile the pattern for runs, of which the longest come in pieces longer than `MAX_RUN`.

    Nothing is tried twice: labels are possessive, labels and dots share no first character, nothing
    follows the loop that could fail, and the look-behind keeps a search from starting again inside a
    label. The loop is bounded because each turn takes 100 bytes of memory while it lasts.
    (A possessive loop would take none, but CPython 3.11 does not undo its last, incomplete turn.)
    """
    label = rf"[\w\-\uff0d\u00ad\u200b-\u200d\u2060\ufeff{_combining_marks()}]"
    return re.compile(rf"(?<!{label}){label}++(?:{_DOT}{label}++){{1,{MAX_RUN // 2}}}")


def _combining_marks() -> str:
    """Return a character class of the marks that belong to letters; `\\w` leaves them out (10 ms, once)."""
    marks = (chr(c) for c in range(0x300, 0xFE30) if unicodedata.category(chr(c)).startswith("M"))
    # Above U+FFFF whole blocks of Indic and African scripts, and variation selectors: IDNA judges each character.
    return "".join(marks) + "\U00011000-\U00011fff\U0001e000-\U0001e9ff\U000e0100-\U000e01ef"
