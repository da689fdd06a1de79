"""The extractor: what is a name, what is not, and that no text makes it slow."""

# ruff: noqa: RUF001, E501  full-width letters are part of the matter; the tables of cases are kept compact

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from publicsuffixlist import PSLFILE

from examples.domains.bare_names import _COUNTRIES, _FILES, _TRUSTED, _WORDS
from examples.domains.evaluation.hostile import HOSTILE, cpu_seconds, hostile_text
from examples.domains.evaluation.scoring import FINDERS, Snippet, errors, load_sample, score
from examples.domains.extract import MAX_RUN, _top_level, find_domains, to_ascii, warm_up
from tests.examples.domains.hostile_texts import hostile_texts


def finds(text: str, *names: str) -> None:
    assert find_domains(text) == list(names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("see www.example.com and bob@mail.example.co.uk", "www.example.com mail.example.co.uk"),
        ("example.com example.com, EXAMPLE.Com", "example.com example.com example.com"),
        ("example.com. example.com, example.com; example.com!", "example.com " * 4),
        ("(example.com) [example.com] <example.com> {example.com}", "example.com " * 4),
        ("'example.com' \"example.com\" “example.com” «example.com»", "example.com " * 4),
        ("**example.com** `example.com` _example.com_ __example.com__", "example.com " * 4),
        ("_see example.com._ __www.example.com.__ пример.рф._ xn--e1afmkfd.xn--p1ai.__", "example.com www.example.com пример.рф пример.рф"),
        ("[example.com](https://example.com/)", "example.com example.com"),
        ("<a href=https://a.example.com>b.example.com</a>", "a.example.com b.example.com"),
        ("*.example.com .example.org ...example.net", "example.com example.org example.net"),
        ("example.com.\nexample.org. 300 IN A 192.0.2.1", "example.com example.org"),
        ("example.com/path?next=a.example.org&x=1#b.example.net", "example.com a.example.org b.example.net"),
        ("foo.github.io r3---sn-4g5e.googlevideo.com", "foo.github.io r3---sn-4g5e.googlevideo.com"),
        ("1.2.3.4.in-addr.arpa 1.2.3.com 4.3.2.1.example.com", "1.2.3.4.in-addr.arpa 1.2.3.com 4.3.2.1.example.com"),
        ("ipcore.co.za foo.com.mm www.ck", "ipcore.co.za foo.com.mm www.ck"),
    ],
)  # fmt: skip
def test_names_are_found_in_prose_markup_and_records(text: str, names: str) -> None:
    finds(text, *names.split())


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "com", "co.uk", "a.b", "localhost", "foo.internal", "db.lan", "3.14", "1.2.3.4", "192.168.1.1:80",
        "2001:db8::1", "e.g. i.e. a.k.a. U.S.A.", "file.tar.gz", "example . com", "example.\ncom", "example\u2028.com",
        "a.example.c0m", "example.123", "end.The next", "It was the end.In the morning", "sentence.It is",
    ],
)  # fmt: skip
def test_what_has_no_public_suffix_is_no_name(text: str) -> None:
    finds(text)


@pytest.mark.parametrize(
    "text",
    ["-a.example.com", "a-.example.com", "a.-example.com", "a.example-.com", f"{'a' * 64}.com"],
)
def test_a_bad_label_refuses_the_whole_name(text: str) -> None:
    finds(text)


def test_labels_of_63_and_names_of_253_octets_are_the_longest() -> None:
    finds(f"{'a' * 63}.com", f"{'a' * 63}.com")
    longest = "a." * 124 + "a.com"
    assert len(longest) == 253
    finds(longest, longest)
    finds("a" + longest)
    finds("a." * MAX_RUN + "com")


def test_lengths_are_those_of_the_ascii_form() -> None:
    finds("ü" * 50 + ".com", "ü" * 50 + ".com")
    finds("üä" * 29 + ".com")  # 58 characters, more than 63 octets


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("_dmarc.example.com _sip._tcp.example.com", "_dmarc.example.com _sip._tcp.example.com"),
        ("a_b.example.com", "a_b.example.com"),
        ("__www.example.com _example.com", "www.example.com example.com"),
        ("_.com __.co.uk _._ a._.com a.__b.com _._example.com", ""),
        ("foo_bar.com www.foo_bar.com example.c_m", ""),
    ],
)
def test_underscores_stand_left_of_the_registrable_domain(text: str, names: str) -> None:
    finds(text, *names.split())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("bob.smith@mail.example.co.uk", "mail.example.co.uk"),
        ("john.is+list@example.com, x@example.org", "example.com example.org"),
        ("git@github.com:user/repo.git", "github.com"),
        ("bob.name[at]example[.]com, bob.name(at)example.com, bob.name[@]example.com", "example.com " * 3),
        ("https://example.com:8080/ ftp://bob@example.org/ ssh://git@example.net:22/x", "example.com example.org example.net"),
        ("https://user.name:pass@example.com/ https://user.name@example.com/", "example.com example.com"),
        ("bob@main.py https://user@host.py", "main.py host.py"),
    ],
)  # fmt: skip
def test_only_hosts_of_addresses_and_urls_are_names(text: str, names: str) -> None:
    finds(text, *names.split())


@pytest.mark.parametrize(
    "text",
    [
        "example[.]com", "example(.)com", "example{.}com", "example[dot]com", "example(DOT)com", "example{dot}com",
        "hxxp://example.com", "hxxps[://]example[.]com/", "hxxp[:]//example.com", "example\\.com", "example%2Ecom",
        "bob@example[.]com",
    ],
)  # fmt: skip
def test_defanged_and_escaped_dots_are_dots(text: str) -> None:
    finds(text, "example.com")


def test_a_defanged_name_is_a_host_whatever_its_suffix() -> None:
    finds("main[.]py kq9x[.]zip self[.]name", "main.py", "kq9x.zip", "self.name")


@pytest.mark.parametrize(
    "text",
    [
        "münchen.de", "MÜNCHEN.DE", "Mu\u0308nchen.de", "xn--mnchen-3ya.de", "XN--MNCHEN-3YA.DE", "münchen。de", "münchen．de",
        "münchen｡de", "mün\u200bchen.de", "\ufeffmünchen.de", "mün\xadchen.de", "münchen.de\u200b", "ｍüｎｃｈｅｎ．ｄｅ",
    ],
)  # fmt: skip
def test_all_spellings_of_an_international_name_are_one(text: str) -> None:
    finds(text, "münchen.de")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("пример.рф, भारत.भारत; موقع.السعودية. faß.de", "пример.рф भारत.भारत موقع.السعودية faß.de"),
        ("食狮.公司.cn 食狮。公司。cn", "食狮.公司.cn 食狮.公司.cn"),
        ("请访问example.com吧。你好。www.example.cn。谢谢", "example.com www.example.cn"),
        ("example.com에서 ไปที่example.co.thครับ", "example.com example.co.th"),
        ("ｗｗｗ．ｅｘ－ａｍｐｌｅ．ｃｏｍ", "www.ex-ample.com"),
        ("xn--i-7iq.ws", "xn--i-7iq.ws"),  # an emoji: it resolves, but IDNA 2008 has no Unicode form
        ("xn--zzzz99999.com xn--.com xn---bbk.com a.\u200b.com \u0301a.com", ""),
    ],
)
def test_international_names_are_normalized_or_refused(text: str, names: str) -> None:
    finds(text, *names.split())


@pytest.mark.parametrize(
    "text",
    ["https%3A%2F%2Fexample.com%2F", "%253Dexample.com%26", "\\nexample.com\\n", "\\u003cexample.com", "&lt;example.com&gt;"],
)  # fmt: skip
def test_leftovers_of_encodings_are_taken_off(text: str) -> None:
    finds(text, "example.com")


@pytest.mark.parametrize(
    "text",
    [
        "main.py", "README.md", "libfoo.so", "run.sh", "self.name", "os.path", "x.next", "src/awk.pl", "lib\\foo.cc",
        "Makefile.in", "config.h.in", "index.html.fr", "lpeg.Cc(1)", "flags.TC", "multi-user.target", "Co.Ltd", "Co.KG",
    ],
)  # fmt: skip
def test_a_bare_name_that_looks_like_a_file_or_code_is_left_out(text: str) -> None:
    finds(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://main.py/", "bob@README.md", "www.libfoo.so", "paypal-login.download", "x7.host", "allegro.pl",
        "EXAMPLE.PL", "Example.Com", "dns.pl", "shop.in", "example.com(192.0.2.1)", "bit.ly/x", "html.com", "foo.js.org",
    ],
)  # fmt: skip
def test_a_host_with_a_doubtful_suffix_is_kept_where_something_says_host(text: str) -> None:
    assert len(find_domains(text)) == 1


def test_doubted_suffixes_are_in_the_list() -> None:
    doubted = _FILES | _WORDS | _COUNTRIES | _TRUSTED

    assert len(doubted - _top_level()) <= 3  # top levels come and go; an entry too many does no harm


def test_a_name_under_every_rule_of_the_suffix_list_is_found() -> None:
    icann = Path(PSLFILE).read_text(encoding="utf-8").partition("===END ICANN DOMAINS===")[0]
    rules = [line.strip() for line in icann.splitlines() if line and not line.startswith("//")]
    assert len(rules) > 5000
    names = ["zzq." + rule.removeprefix("!").replace("*", "any") for rule in rules]

    missing = [name for name in names if not find_domains(f"https://{name}/")]

    assert missing == []


def test_to_ascii_gives_the_name_that_resolves() -> None:
    assert to_ascii("münchen.de") == "xn--mnchen-3ya.de"
    assert to_ascii("example.com") == "example.com"
    assert to_ascii("xn--i-7iq.ws") == "xn--i-7iq.ws"


@pytest.mark.parametrize("text", ["", "no name", "-a.com", "ü" * 300 + ".de", "xn--zzzz99999.com"])
def test_to_ascii_refuses_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        to_ascii(text)


@given(hostile_texts)
@settings(max_examples=500)
def test_every_name_found_is_normalized_and_has_an_ascii_form(text: str) -> None:
    for name in find_domains(f"{text} example.com{text} {text}.com"):
        assert name == name.lower()
        assert not name.endswith(".")
        assert len(to_ascii(name)) <= 253
        assert find_domains(f"https://{to_ascii(name)}/") == [name]


def test_what_stands_in_another_word_does_not_matter() -> None:
    words = ["bob.name", "@", "example.py", "https://", "example.md", "x.call", "(", "www", "[.]"]

    finds(" ".join(words), *[name for word in words for name in find_domains(word)])


def test_finding_is_sent_to_a_worker_by_name() -> None:
    assert pickle.loads(pickle.dumps(find_domains)) is find_domains
    assert pickle.loads(pickle.dumps(partial(find_domains, "a.com")))() == ["a.com"]


def test_importing_loads_no_tables() -> None:
    code = (
        "import sys, examples.domains.extract as e; before = {'idna', 'publicsuffixlist'} & set(sys.modules);"
        "e.warm_up(); print(sorted(before), 'idna.uts46data' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert done.stdout == "[] True\n"


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_input_costs_more_than_its_length(unit: str) -> None:
    """Eight times the text takes about 8 times the time; of a quadratic pattern it would be 64."""
    warm_up()
    short = cpu_seconds(hostile_text(unit, 20_000))
    long = cpu_seconds(hostile_text(unit, 160_000))

    assert long / max(short, 1e-4) < 24


def test_the_naive_pattern_fails_the_same_test() -> None:
    """So the test above can fail."""
    naive = partial(cpu_seconds, find=FINDERS["naive pattern"])

    assert naive("a." * 6000) / naive("a." * 750) > 24


# What README.md reports, a hair lower.
def test_precision_and_recall_on_the_sample_are_those_reported() -> None:
    sample = load_sample()
    everything = score(find_domains, sample)
    real = score(find_domains, [snippet for snippet in sample if not snippet.made_up])

    held_out = score(find_domains, [snippet for snippet in sample if snippet.kind == "held-out"])

    assert everything.precision >= 0.935  # 0.937
    assert everything.recall >= 0.985  # 0.988
    assert real.precision >= 0.925  # 0.927
    assert real.recall >= 0.995  # 1.000
    assert held_out.precision >= 0.94  # 0.946
    assert held_out.recall >= 0.995  # 1.000


def test_the_sample_is_large_varied_and_harder_than_the_naive_pattern() -> None:
    sample = load_sample()
    naive = score(FINDERS["naive pattern"], sample)

    assert len(sample) >= 250
    assert len({snippet.text for snippet in sample}) == len(sample)
    assert len({snippet.source for snippet in sample if not snippet.made_up}) >= 10
    assert naive.f1 < 0.65


def test_scoring_counts_duplicates_and_both_kinds_of_mistake() -> None:
    snippet = Snippet("a.com a.com b.com", ["a.com", "a.com", "b.com"], "prose", "test")

    [(_, invented, lost)] = errors(lambda text: ["a.com", "c.com", "b.com"], [snippet])
    result = score(lambda text: ["a.com", "c.com", "b.com"], [snippet])

    assert (invented, lost) == (["c.com"], ["a.com"])
    assert (result.found_right, result.found_wrong, result.missed) == (2, 1, 1)
    assert result.precision == result.recall == result.f1 == pytest.approx(2 / 3)
