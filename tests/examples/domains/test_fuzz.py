"""The service fuzzed, by its own OpenAPI and by uploads made to hurt: every answer is a documented one."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from examples.domains.app import app
from examples.domains.limits import Limits
from tests.examples.domains.serving import client
from tests.examples.domains.test_uploads import BOUNDARY, FORM, MEGABYTE, TEXT, part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemathesis import Case

SCHEMA = schemathesis.openapi.from_dict(app.openapi())
OPERATIONS: dict[str, Any] = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}  # type: ignore[union-attr]
UPLOAD_ANSWERS = {200, 413, 415, 422}
"""What an upload that arrives whole may be answered; 408, 503 and 504 are about time, of which there is enough."""
ROOM = 16 * MEGABYTE
"""Bytes that the server may hold for one upload, whatever it expands to; measured: 3 MB."""

CHECKS: list[Any] = schemathesis.checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)

FUZZING = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@contextlib.contextmanager
def in_process() -> Iterator[Callable[[httpx.Request], httpx.Response]]:
    """Run the app with its real pool in this process; what it does not handle is raised here, and fails the test."""
    connection = client()
    with asyncio.Runner() as runner:
        http = runner.run(connection.__aenter__())
        try:
            yield lambda request: runner.run(http.send(request))
        finally:
            runner.run(connection.__aexit__(None, None, None))


def assert_documented(response: httpx.Response, statuses: set[int]) -> None:
    assert response.status_code in statuses, response.text
    success = response.status_code == 200
    assert response.headers["Content-Type"] == ("application/json" if success else "application/problem+json")
    assert response.json().keys() >= ({"status"} if success else {"type", "title", "status", "detail"})


# --- by its own description -----------------------------------------------------------------------------------------


def as_request(case: Case[Any]) -> httpx.Request:
    """Return what schemathesis would send with `requests`, for a client without a network."""
    ready: Any = requests.Request(**case.as_transport_kwargs("http://test")).prepare()
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in ready.headers.items()]
    return httpx.Request(ready.method, ready.url, headers=headers, content=ready.body or b"")


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_the_openapi_describes_and_what_it_forbids_get_documented_answers(label: str) -> None:
    operation = OPERATIONS[label]
    cases = [operation.as_strategy(generation_mode=GenerationMode.POSITIVE)]
    if "POST" in label:  # the others take nothing, of which nothing can be wrong
        cases.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))

    with in_process() as ask:

        @settings(FUZZING, max_examples=60 if "POST" in label else 3)
        @given(st.one_of(cases))
        def check(case: Case[Any]) -> None:
            response = ask(as_request(case))
            assert response.status_code < 500, response.text
            case.validate_response(response, checks=CHECKS)

        check()


# --- uploads made to hurt -------------------------------------------------------------------------------------------


CONTENTS = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(max_size=100).map(lambda text: text.encode("utf-16", "surrogatepass")),
    st.just(TEXT),
    st.sampled_from([bytes(2 * MEGABYTE), b"a." * MEGABYTE, "\u3002".encode() * 200_000]),
)


@st.composite
def gzips(draw: st.DrawFn) -> bytes:
    """Draw gzip: of one member or many, nested, with odd headers, cut short, damaged, or followed by something."""
    data = draw(CONTENTS)
    for _ in range(draw(st.integers(1, 3))):
        packed = zlib.compress(data, draw(st.sampled_from([0, 1, 9])), wbits=31)
        data = b"".join([packed] * draw(st.integers(1, 3)))
    where = draw(st.integers(0, min(len(data), 400) - 1))
    how = draw(st.sampled_from(["whole", "cut", "flipped", "flagged", "followed", "padded"]))
    match how:
        case "cut":
            return data[:where]
        case "flipped":
            return data[:where] + bytes([data[where] ^ 1 << draw(st.integers(0, 7))]) + data[where + 1 :]
        case "flagged":  # extra field, name, comment, header checksum: promised and not there
            return data[:3] + bytes([draw(st.integers(0, 255))]) + data[4:]
        case "followed":
            return data + draw(st.binary(min_size=1, max_size=40))
        case "padded":
            return data + bytes(draw(st.integers(1, 1000)))
        case _:
            return data


HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)
CHARSETS = st.sampled_from(
    ["utf-8", "utf-7", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037", "shift_jis", "iso2022_jp", "punycode"]
) | st.sampled_from(
    ["unicode_escape", "raw_unicode_escape", "rot13", "base64", "zlib", "bz2", "idna", "mbcs", "oem", "unknown", ""]
)
CONTENT_TYPES = st.one_of(
    st.sampled_from(["text/plain", "application/gzip", "application/x-gzip", "application/octet-stream", ""]),
    st.builds("text/plain; charset={}".format, CHARSETS | HEADER_TEXT),
    st.builds("multipart/form-data; boundary={}".format, HEADER_TEXT),
    HEADER_TEXT,
)
CONTENT_ENCODINGS = st.sampled_from(["identity", "gzip", "GZIP", "x-gzip", "deflate", "gzip, gzip", "", "\xff"])


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """Draw parts with any content, between boundaries that may be wrong, missing or one too many."""
    breaks = [b"", b"\r\n", b"--xx", b"--xx--", b"--xx\r\n", b"\r\n--xx--\r\n", b"Content-Disposition: form-data\r\n"]
    pieces = draw(
        st.lists(
            st.one_of(
                st.builds(part, st.sampled_from([b"file", b"other", b""]), CONTENTS | gzips(), FILENAMES),
                st.sampled_from(breaks),
                st.binary(max_size=50),
            ),
            max_size=5,
        )
    )
    return b"".join(pieces) + draw(st.sampled_from([b"--xx--\r\n", b"--xx--", b"--xx", b""]))


FILENAMES = st.sampled_from([b"a.txt", b"a.gz", b"", b'"', b"\xff\x00.gz", b"../../a.gz", b"a" * 5000])


def test_hostile_uploads_get_documented_answers() -> None:
    with in_process() as ask:

        @settings(FUZZING, max_examples=150)
        @given(CONTENTS | gzips(), CONTENT_TYPES, CONTENT_ENCODINGS)
        def check(body: bytes, content_type: str, encoding: str) -> None:
            headers = {"Content-Type": content_type.strip(), "Content-Encoding": encoding}
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            assert_documented(
                ask(httpx.Request("POST", "http://test/upload", headers=raw, content=body)), UPLOAD_ANSWERS
            )

        check()


def test_broken_forms_get_documented_answers() -> None:
    with in_process() as ask:

        @settings(FUZZING, max_examples=120)
        @given(forms())
        def check(body: bytes) -> None:
            request = httpx.Request("POST", "http://test/upload", headers=FORM, content=body)
            assert_documented(ask(request), UPLOAD_ANSWERS)

        check()


# --- memory ---------------------------------------------------------------------------------------------------------


def zeros(size: int) -> bytes:
    """Return gzip of so many zeros, made without having them in memory."""
    packer = zlib.compressobj(1, wbits=31)
    step = bytes(MEGABYTE)
    return b"".join([*(packer.compress(step) for _ in range(size // MEGABYTE)), packer.flush()])


def a_form_of(count: int, content: bytes) -> bytes:
    return part(b"file", content, b"a.gz") * count + b"--" + BOUNDARY + b"--\r\n"


@pytest.mark.parametrize(
    ("make", "headers"),
    [
        (lambda: zeros(48 * MEGABYTE), {"Content-Encoding": "gzip"}),
        (lambda: zeros(48 * MEGABYTE), {"Content-Type": "application/octet-stream"}),
        (lambda: gzip.compress(zeros(48 * MEGABYTE)), {"Content-Encoding": "gzip"}),
        (lambda: zeros(MEGABYTE) * 48, {"Content-Type": "application/gzip"}),
        (lambda: a_form_of(48, zeros(MEGABYTE)), FORM),
    ],
    ids=["encoding", "file", "gzip-in-gzip", "many-members", "many-files"],
)
def test_what_a_bomb_expands_to_is_never_in_memory(
    make: Callable[[], bytes], headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.domains.app.LIMITS", Limits(max_expanded=32 * MEGABYTE))
    body = make()
    with in_process() as ask:
        ask(httpx.Request("POST", "http://test/upload", content=gzip.compress(TEXT)))  # what is loaded once is loaded
        with measured() as peak:
            response = ask(httpx.Request("POST", "http://test/upload", headers=headers, content=body))
        assert_documented(response, {413})
        assert peak() < ROOM


@contextlib.contextmanager
def measured() -> Iterator[Callable[[], int]]:
    """Count the bytes that Python allocates in this process at most, beyond those it had before."""
    tracemalloc.start()
    before, most = tracemalloc.get_traced_memory()[0], 0

    def peak() -> int:
        return most

    try:
        yield peak
    finally:
        most = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
