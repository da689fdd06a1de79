"""`POST /upload`: text and files of any size, packed or not, and every way to damage them."""

import asyncio
import gzip
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.domains.counting import Tally
from examples.domains.decoding import STEP, Budget, Gunzip, MaybeGunzip, Text, Unpacked
from examples.domains.forms import Form
from examples.domains.limits import Limits
from examples.domains.problems import Problem
from tests.examples.domains.serving import client, running, started
from tests.examples.domains.test_app import assert_problem

pytestmark = pytest.mark.usefixtures("lasting_app")

TEXT = b"see www.example.com and bob@mail.example.co.uk, www.example.com again\n"
COUNTS = {"www.example.com": 2, "mail.example.co.uk": 1}
MEGABYTE = 1 << 20
BOUNDARY = b"xx"
FORM = {"Content-Type": "multipart/form-data; boundary=xx"}


async def upload(body: Any = b"", headers: Any = None, **options: Any) -> httpx.Response:
    async with client() as http:
        return await http.post("/upload", content=body or None, headers=headers, **options)


def part(name: bytes, content: bytes, filename: bytes = b"a.txt") -> bytes:
    disposition = b'Content-Disposition: form-data; name="%b"; filename="%b"' % (name, filename)
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY, disposition, content)


#: A bomb inside of a gzip: some kilobytes that would expand to 64 MB, the first layer at a ratio of one.
BOMB = gzip.compress(bytes(64 * MEGABYTE))
TWICE_PACKED = gzip.compress(BOMB)
END = b"--xx--\r\n"
FORM_OF_BOMB = part(b"file", BOMB, b"a.gz") + END
#: Bytes that do not pack pay for themselves, not for the bomb behind them.
FORM_WITH_BOMB = part(b"file", gzip.compress(random.Random(1).randbytes(MEGABYTE))) + FORM_OF_BOMB
FORM_OF_MANY = part(b"file", b"") * 1001 + END


# ---- what is taken ----


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (TEXT, {}),
        (TEXT, {"Content-Type": "text/plain"}),
        (TEXT, {"Content-Type": "text/csv; charset=UTF-8"}),
        (TEXT, {"Content-Type": "application/octet-stream"}),
        (TEXT.decode().encode("utf-16"), {"Content-Type": "text/plain"}),
        (TEXT.decode().encode("utf-16-be"), {"Content-Type": "text/plain; charset=utf-16-be"}),
        (b"\xef\xbb\xbf" + TEXT, {"Content-Type": "text/plain"}),
        (TEXT + b"\xff\xfe\xc3", {"Content-Type": "text/plain"}),
        (gzip.compress(TEXT), {"Content-Type": "text/plain", "Content-Encoding": "gzip"}),
        (gzip.compress(TEXT), {"Content-Type": "application/gzip"}),
        (gzip.compress(TEXT), {"Content-Type": "application/octet-stream"}),
        (gzip.compress(gzip.compress(TEXT)), {"Content-Encoding": "gzip"}),
    ],
)
async def test_text_and_gzip_are_counted(body: bytes, headers: dict[str, str]) -> None:
    response = await upload(body, headers)
    assert response.status_code == 200, response.text
    assert response.json() == {
        "status": "success",
        "count": 3,
        "counts": COUNTS,
        "truncated": False,
    }


async def test_an_empty_body_has_no_names() -> None:
    assert (await upload()).json()["count"] == 0


async def test_several_files_in_a_form_are_counted_together_and_separately() -> None:
    response = await upload(
        files=[
            ("file", ("a.txt", TEXT)),
            ("file", ("b.log.gz", gzip.compress(TEXT), "application/gzip")),
            ("file", ("c", b"www.exam")),
            ("file", ("d", b"ple.org")),
            ("other", ("e.txt", b"not.example.net")),
        ]
    )
    assert response.json()["counts"] == {
        "www.example.com": 4,
        "mail.example.co.uk": 2,
        "ple.org": 1,  # and no www.example.org
    }


async def test_names_across_network_pieces_are_whole() -> None:
    async def bytewise() -> AsyncIterator[bytes]:
        for byte in TEXT:
            yield bytes([byte])

    assert (await upload(bytewise())).json()["counts"] == COUNTS


async def test_counts_are_bounded_and_say_so() -> None:
    tally = Tally(max_names=2)
    for found in ({"a": 1, "b": 1}, {"c": 5, "a": 2}, {"b": 1}):
        tally.add(found)
    assert tally.most_common() == {"a": 3, "b": 2}
    assert tally.count == 10
    assert tally.truncated


@pytest.mark.parametrize("charset", ["latin-1", "ISO-8859-1", "windows-1252", "us-ascii", "Shift_JIS", "GBK", "UTF_8"])
async def test_charsets_that_texts_come_in_are_taken(charset: str) -> None:
    response = await upload(TEXT, {"Content-Type": f"text/plain; charset={charset}"})
    assert response.json()["counts"] == COUNTS


# ---- what is refused ----


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (415, {"Content-Type": "application/json"}, b"{}", "'application/json' is not text"),
        (415, {"Content-Type": "image/png"}, b"\x89PNG", "'image/png' is not text"),
        (415, {"Content-Encoding": "br"}, TEXT, "'br'"),
        *(
            (415, {"Content-Type": f"text/plain; charset={charset}"}, TEXT, "no charset")
            for charset in ("nope", "hex", "undefined", "idna", "punycode", "utf-7", "unicode_escape", "a" * 1000)
        ),
        (413, {"Content-Encoding": "gzip"}, TWICE_PACKED, "bomb"),
        (413, {"Content-Encoding": "gzip"}, gzip.compress(b"") * 5000, "too many parts"),
        (415, {"Content-Encoding": "gzip"}, gzip.compress(gzip.compress(gzip.compress(TEXT))), "gzip inside of gzip"),
        (415, {"Content-Type": "application/gzip"}, gzip.compress(gzip.compress(TEXT)), "gzip inside of gzip"),
        (413, {**FORM, "Content-Encoding": "gzip"}, gzip.compress(FORM_OF_BOMB), "bomb"),
        (413, FORM, FORM_WITH_BOMB, "bomb"),
        (413, FORM, FORM_OF_MANY, "more than 1,000 files"),
        (413, FORM, part(b"x", b"") * 10_001, "more than 10,000 parts"),
        (422, {"Content-Type": "text/plain; charset=utf-16"}, TEXT, "cannot be decoded"),
        (422, {"Content-Encoding": "gzip"}, TEXT, "damaged"),
        (422, {"Content-Encoding": "gzip"}, b"", "damaged"),
        (422, {"Content-Type": "application/gzip"}, TEXT, "damaged"),
        (422, {"Content-Encoding": "gzip"}, gzip.compress(TEXT)[:-1], "damaged"),
        (422, {"Content-Encoding": "gzip"}, gzip.compress(TEXT) + b"more", "damaged"),
        (413, {"Content-Encoding": "gzip"}, gzip.compress(bytes(8 * MEGABYTE)), "bomb"),
        (413, {"Content-Length": str(1 << 50)}, TEXT, "larger"),
        (422, FORM, b"", "cut short"),
        (422, FORM, b"no form", "cannot be read"),
        (422, {"Content-Type": "multipart/form-data"}, b"no form", "cannot be read"),
        (422, FORM, part(b"file", TEXT), "cut short"),
        (422, FORM, part(b"other", TEXT) + b"--xx--\r\n", "no file"),
        (422, FORM, part(b"file", TEXT, b"a.gz") + b"--xx--\r\n", "damaged"),
        (422, FORM, part(b"file", b"", b"a.gz") + b"--xx--\r\n", "damaged"),
        (422, FORM, b"--xx\r\n" + b"a" * 100_000, "cannot be read"),
    ],
)
async def test_bad_uploads_are_explained(status: int, headers: dict[str, str], body: bytes, words: str) -> None:
    response = await upload(body, headers)
    assert_problem(response, status, words)
    assert response.json()["hint"]


async def test_a_stalled_client_is_refused_after_the_read_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("examples.domains.app.LIMITS", Limits(read_timeout=0))

    async def stalls() -> AsyncIterator[bytes]:
        yield b""
        await asyncio.get_running_loop().create_future()

    assert_problem(await upload(stalls()), 408, "No data came")


async def test_a_client_that_leaves_half_way_is_no_error_of_the_server() -> None:
    messages = iter(
        [
            {"type": "http.request", "body": TEXT, "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    scope = {"type": "http", "method": "POST", "path": "/upload", "headers": []}
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    async with started() as running_app:
        await running_app({**scope, "query_string": b"", "root_path": ""}, receive, send)
    assert sent[0]["status"] == 400


# ---- the stages, without a server ----


def read(reader: Any, pieces: Iterator[bytes]) -> str:
    texts = [text for piece in pieces for texts in reader.feed(piece) for text in texts]
    return "".join(texts + [text for texts in reader.close() for text in texts])


def cut(data: bytes, at: list[int]) -> Iterator[bytes]:
    ends = sorted({0, len(data), *(i % (len(data) + 1) for i in at)})
    return (data[a:b] for a, b in itertools.pairwise(ends))


@given(st.lists(st.binary(max_size=200), max_size=4), st.lists(st.integers(0, 10**6), max_size=8))
def test_gunzip_undoes_gzip_however_it_is_cut(members: list[bytes], at: list[int]) -> None:
    packed = b"".join(gzip.compress(m) for m in members) or gzip.compress(b"")
    gunzip = Gunzip(Budget(Limits()))
    plain = [p for piece in cut(packed + bytes(len(at)), at) for p in gunzip.feed(piece)]
    plain += gunzip.close()
    assert b"".join(plain) == b"".join(members)


@given(st.binary(max_size=300))
def test_gunzip_says_problem_and_nothing_else_about_invalid_data(data: bytes) -> None:
    gunzip = Gunzip(Budget(Limits()))
    with pytest.raises(Problem, match="damaged"):
        list(itertools.chain(gunzip.feed(b"\x1f\x8b" + data), gunzip.close()))


def test_every_step_of_gunzip_is_small_and_none_is_lost() -> None:
    plain = random.Random(1).randbytes(1000) * 3000
    steps = list(Gunzip(Budget(Limits(max_ratio=10_000))).feed(gzip.compress(plain)))
    assert max(map(len, steps)) <= STEP
    assert b"".join(steps) == plain


def test_what_expands_too_far_is_stopped_in_time() -> None:
    budget = Budget(Limits(max_expanded=4 * MEGABYTE, max_ratio=10_000))
    with pytest.raises(Problem, match="expands to more than") as refused:
        list(Gunzip(budget).feed(gzip.compress(bytes(64 * MEGABYTE))))
    assert refused.value.status_code == 413
    assert budget.expanded <= 4 * MEGABYTE + STEP


def test_the_budget_is_shared_by_all_files_of_a_request() -> None:
    budget = Budget(Limits(max_expanded=3 * MEGABYTE, max_ratio=10_000))
    packed = gzip.compress(bytes(2 * MEGABYTE))
    list(Gunzip(budget).feed(packed))
    with pytest.raises(Problem, match="expands to more than"):
        list(Gunzip(budget).feed(packed))


def test_many_small_bombs_are_refused_like_a_large_one() -> None:
    budget = Budget(Limits(max_ratio=100))
    packed = gzip.compress(bytes(MEGABYTE // 2))
    for _ in range(2):
        list(Gunzip(budget).feed(packed))
    with pytest.raises(Problem, match="like a decompression bomb"):
        list(Gunzip(budget).feed(packed))
    assert budget.expanded <= MEGABYTE + STEP


@given(st.text(max_size=300), st.lists(st.integers(0, 10**6), max_size=8))
def test_text_is_decoded_however_it_is_cut(text: str, at: list[int]) -> None:
    data = text.encode("utf-8")
    assert read(Text("utf-8"), cut(data, at)) == text.removeprefix("\ufeff")


@given(
    st.lists(st.binary(max_size=100), min_size=1, max_size=4),
    st.lists(st.integers(0, 10**6), max_size=8),
)
def test_forms_are_read_however_they_are_cut(files: list[bytes], at: list[int]) -> None:
    body = b"".join(part(b"file", content) for content in files) + b"--xx--\r\n"
    form = Form(BOUNDARY, lambda name, kind: Text("latin-1"))
    assert read(form, cut(body, at)) == b"".join(files).decode("latin-1")


@given(st.binary(max_size=300))
def test_nothing_but_a_problem_comes_of_any_form(body: bytes) -> None:
    budget = Budget(Limits())
    form = Form(BOUNDARY, lambda name, kind: Unpacked(MaybeGunzip(budget), Text(None)))
    with pytest.raises(Problem):
        read(form, iter([b"--xx\r\n" + body]))


# ---- the real service ----


def test_memory_stays_bounded_and_other_requests_are_served_during_a_large_upload() -> None:
    """32 MB through a real server: its memory grows by less than half of that, in all its processes."""
    size = 32 * MEGABYTE
    prose = b"A long line of prose, as most of a large file is, in which no name appears.\n" * 20
    names = [f"host{n}.example.com" for n in range(40)]
    block = b"".join(prose + name.encode() + b"\n" for name in names)
    healthy = peak = 0
    with running() as service, httpx.Client(base_url=service.url, timeout=30) as http:
        family = [psutil.Process(service.process.pid)]
        family += family[0].children(recursive=True)
        http.post("/upload", content=block).raise_for_status()  # what is loaded once is loaded now
        before = memory(family)

        def body() -> Iterator[bytes]:
            nonlocal healthy, peak
            for n in range(size // len(block)):
                if n % 50 == 0:
                    healthy += httpx.get(f"{service.url}/health").is_success
                    peak = max(peak, memory(family))
                yield block

        answer = http.post("/upload", content=body()).raise_for_status().json()
        peak = max(peak, memory(family))
    blocks = size // len(block)
    assert answer["count"] == len(names) * blocks
    assert answer["counts"] == dict.fromkeys(names, blocks)
    assert healthy == len(range(0, blocks, 50))
    assert peak - before < size // 2


def memory(family: list[psutil.Process]) -> int:
    """Return the memory of these processes in bytes, shared pages counted once for each."""
    return sum(process.memory_info().rss for process in family)
