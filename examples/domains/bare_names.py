"""Names that stand bare in a text, and look more like a file, an attribute or two sentences than like a host.

The top level has `.md`, `.py`, `.name` and `.next`: `README.md` and `self.name` are valid domain names. Only the
context decides. In a URL, after an `@`, with `www.` or defanged they are hosts; alone they are doubted by the rules
below. Every entry was met in the documents that evaluation/README.md names, which also says what the rules cost.
"""

__all__ = ["is_doubtful"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# File types and the like: doubted whatever stands before them.
_FILES = _set("author cf dot exchange inc lds ltd man map md mo mov pid pm properties ps pub py rs sh so target zip")
# Words that are attributes and methods. Phishing likes their low price, so they are doubted only where all before is
# letters, as in `self.name`; `paypal-login.download` and `x7.host` are kept.
_WORDS = _set(
    "auto book build call channel data date download email events fail global group host id kids link name network "
    "new next now open ping post read report run search services stream style tools web win zone"
)
# Country codes that are file types as well: too many hosts to doubt them bare, but not after the slash of a path.
_COUNTRIES = _set("ac am cc in la mk ml pl st tc vi")
_TEMPLATES = _set("configure control makefile potfiles rules")  # Makefile.in, configure.ac, Makefile.PL
_EXTENSIONS = _set(  # index.html.fr, config.h.in, Resume.doc.zip
    "c conf cpp css csv doc gz h htm html in js json pdf php pl py sh tar tex txt xml yaml"
)
_OWNERS = _set("cls obj object os self sys this vnd window")
_TRUSTED = _set("arpa com edu gov mil net org")


def is_doubtful(written: str, registrable: str, before: str, after: str) -> bool:
    """Tell whether a bare name is more likely something else than a host.

    Args:
        written: The name in ASCII, as written (its capitals tell a new sentence from a host).
        registrable: Its registrable domain, normalized.
        before: The character in front of it, or an empty string.
        after: The character behind it, or an empty string.
    """
    *rest, last = written.split(".")
    suffix = last.lower()
    if suffix in _TRUSTED:
        return False
    return (
        suffix in _FILES
        or (suffix in _WORDS and all(label.isalpha() for label in rest))
        or (suffix in _COUNTRIES and before in ("/", "\\"))
        or (rest[-1][0].islower() and last[0].isupper())  # "the end.In", "flags.TC": a sentence or a constant
        or _has_telling_label(rest, registrable)
        or (after == "(" and len(rest) == 1)  # a call: "lpeg.Cc("
    )


def _has_telling_label(rest: list[str], registrable: str) -> bool:
    """Tell whether the labels before the last one are those of code, files or companies."""
    return (
        rest[0].lower() in _OWNERS
        or rest[-1].lower() in _TEMPLATES
        or (len(rest) > 1 and registrable.partition(".")[0] in _EXTENSIONS)
        or registrable == "co.kg"  # GmbH & Co.KG
    )
