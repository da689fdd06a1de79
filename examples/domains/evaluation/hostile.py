"""Show that no input makes the extractor slow: `python -m examples.domains.evaluation.hostile`.

Each input is measured at growing sizes. In linear time the milliseconds per million characters stay
the same from column to column; a pattern that back-tracks makes them grow with the size.
"""

import itertools
import time

from examples.domains.evaluation.scoring import Finder
from examples.domains.extract import find_domains, warm_up

__all__ = ["HOSTILE", "cpu_seconds", "hostile_text"]

HOSTILE = {
    "letters": "a",
    "labels": "a.",
    "hyphens": "a-",
    "digits": "a.1.",
    "dots": ".",
    "at signs": "@",
    "mailboxes": "a.com@",
    "plus addresses": "a.com+",
    "bracketed dots": "[.]",
    "labels and bracketed dots": "a[.]",
    "cut brackets": "a[dot",
    "nested brackets": "[(",
    "escaped dots": "a\\.",
    "percent": "%2F",
    "percent dots": "a%2E",
    "users of urls": "://a.name:",
    "ideographic dots": "a。",
    "full-width dots": "\uff41\uff0e",
    "unspaced scripts": "访a。",
    "zero width": "\u200b",
    "zero width labels": "a\u200b.\u200b",
    "combining marks": "e\u0301",
    "combined labels": "\u0301\u0301.",
    "ace prefix": "xn--",
    "bad punycode": "xn--zzzz99999.com ",
    "good punycode": "xn--mnchen-3ya.de ",
    "international names": "müнchen.de ",
    "longest runs": "a." * 510 + "com ",
    "runs just too long": "a." * 512 + "com ",
    "longest labels": "a" * 63 + ".com ",
    "labels too long": "a" * 900 + ".com ",
    "long international runs": "ü." * 500 + "de ",
    "long international labels": "".join(map(chr, range(0x4E00, 0x4E00 + 900))) + ".de ",
    "changes of script": "a访" * 500 + ".com ",
    "names between scripts": "访a.io" * 200 + " ",
    "underscores": "_._",
    "short names": "a.io ",
    "escapes": "\\na.com",
    "ligatures": "ﷺ.",
    "surrogates": "\ud800.",
}


def hostile_text(unit: str, length: int) -> str:
    """Repeat `unit` to `length` characters."""
    return (unit * (length // len(unit) + 1))[:length]


def cpu_seconds(text: str, find: Finder = find_domains) -> float:
    """Return the processor time of one extraction, the best of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        find(text)
        times.append(time.process_time() - start)
    return min(times)


def distinct_names(length: int) -> str:
    """Return a text of names that are all different, so that no cache helps."""
    names = (f"h{i}.d{i * 7919 % 1000003}.co.uk" for i in itertools.count())
    return " ".join(itertools.islice(names, length // 18 + 1))[:length]


def main() -> None:
    warm_up()
    sizes = (50_000, 200_000, 800_000)
    print(f"{'CPU ms per million characters at':<34}" + "".join(f"{size:>10,}" for size in sizes))
    for title, unit in HOSTILE.items():
        _print_row(title, [hostile_text(unit, size) for size in sizes])
    _print_row("names all different", [distinct_names(size) for size in sizes])


def _print_row(title: str, texts: list[str]) -> None:
    costs = [cpu_seconds(text) / len(text) * 1e9 for text in texts]
    print(f"{title:<34}" + "".join(f"{cost:>10.0f}" for cost in costs))


if __name__ == "__main__":
    main()
