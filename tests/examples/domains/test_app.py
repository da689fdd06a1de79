"""`POST /addContent` and its neighbours: what goes in, what comes out, and what is refused how."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from examples.domains.app import LIMITS
from examples.domains.limits import Limits
from tests.examples.domains.serving import client

pytestmark = pytest.mark.usefixtures("lasting_app")

JSON = {"Content-Type": "application/json"}
SAMPLE = "see www.example.com and bob@mail.example.co.uk"


async def post(body: bytes, headers: dict[str, str] = JSON, query: str = "") -> httpx.Response:
    async with client() as http:
        return await http.post(f"/addContent{query}", content=body, headers=headers)


async def find(text: str) -> Any:
    response = await post(json.dumps({"data": text}).encode())
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_sample_gives_every_name() -> None:
    assert await find(SAMPLE) == {
        "status": "success",
        "domains_found": ["www.example.com", "mail.example.co.uk"],
        "count": 2,
    }


async def test_duplicates_are_kept_in_order_of_appearance() -> None:
    found = await find("b.example.com a.example.com b.example.com")
    assert found["domains_found"] == ["b.example.com", "a.example.com", "b.example.com"]
    assert found["count"] == 3


async def test_counts_come_on_request_most_frequent_first() -> None:
    body = json.dumps({"data": "a.example.com b.example.com b.example.com"}).encode()
    counts = (await post(body, query="?counts=true")).json()["counts"]
    assert list(counts.items()) == [("b.example.com", 2), ("a.example.com", 1)]


async def test_a_large_text_gives_the_same_as_its_parts_together() -> None:
    names = [f"host{n}.example.com" for n in range(30_000)]
    found = await find("\n".join(names))
    assert found["domains_found"] == names


async def test_the_time_it_took_is_in_a_header() -> None:
    response = await post(json.dumps({"data": SAMPLE}).encode())
    assert response.headers["Server-Timing"].startswith("extract;dur=")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"data": ""}', []),
        (b'{"data": "   "}', []),
        (b'{"data": "a.example.com\\u0000b.example.com"}', ["a.example.com", "b.example.com"]),
        (b'{"data": "\\ud800 a.example.com \\udc00"}', ["a.example.com"]),
        (b'{"data": "\\ud83d\\ude00 a.example.com"}', ["a.example.com"]),
        (b'{"data": "a.example.com", "data": "b.example.com"}', ["b.example.com"]),
        (b'{"data": "a.example.com\n\tb.example.com"}', ["a.example.com", "b.example.com"]),  # raw, as pasted
        (b'{"data": "a.example.com", "more": [1, {}]}', ["a.example.com"]),
        (b'\xef\xbb\xbf{"data": "a.example.com"}', ["a.example.com"]),
        ('{"data": "a.example.com"}'.encode("utf-16"), ["a.example.com"]),
    ],
)
async def test_unusual_but_valid_bodies_are_searched(body: bytes, expected: list[str]) -> None:
    response = await post(body)
    assert response.status_code == 200, response.text
    assert response.json()["domains_found"] == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The body is missing"),
        (b"{}", "`data` is missing"),
        (b'{"data": null}', "`data` is not text"),
        (b'{"data": 1}', "`data` is not text"),
        (b'{"data": NaN}', "`data` is not text"),
        (b'{"data": ["a"]}', "`data` is not text"),
        (b"[]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"data": "a', "not valid JSON"),
        (b"see www.example.com", "not valid JSON"),
        (b'{"data": "\xe9"}', "not valid utf-8 at byte 10"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"data": ' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"data": ' + b"9" * 5000 + b"}", "could not be read as JSON"),
    ],
)
async def test_bad_bodies_are_answered_with_what_was_expected(body: bytes, words: str) -> None:
    response = await post(body)
    assert_problem(response, 422, words)
    assert response.json()["expected"] == {"data": "see www.example.com"}
    assert '{"data": "<text>"}' in response.json()["hint"]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"]
)
async def test_json_sent_as_something_else_is_answered_with_the_header(content_type: str) -> None:
    response = await post(b'{"data": "a.example.com"}', {"Content-Type": content_type})
    assert_problem(response, 422, "not a JSON object sent as application/json")


async def test_a_body_with_too_large_a_content_length_is_refused_before_it_is_read() -> None:
    pulled = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal pulled
        pulled += 1
        yield b"x"

    async with client() as http:
        headers = {**JSON, "Content-Length": str(LIMITS.max_body + 1)}
        response = await http.post("/addContent", content=body(), headers=headers)
    assert_problem(response, 413, f"{LIMITS.max_body:,} bytes")
    assert pulled == 0


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large() -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 3 * LIMITS.max_body:
            sent += 1 << 20
            yield b"x" * (1 << 20)

    async with client() as http:
        response = await http.post("/addContent", content=body(), headers=JSON)
    assert_problem(response, 413, f"{LIMITS.max_body:,} bytes")
    assert response.json()["limit"] == LIMITS.max_body
    assert sent <= LIMITS.max_body + (2 << 20)


async def test_other_errors_are_problems_too() -> None:
    async with client() as http:
        assert_problem(await http.get("/nowhere"), 404, "Not Found")
        response = await http.get("/addContent")
        assert_problem(response, 405, "Method Not Allowed")
        assert response.headers["Allow"] == "POST"


async def test_who_watches_the_service_learns_how_it_is() -> None:
    async with client() as http:
        await http.post("/addContent", json={"data": SAMPLE})
        assert (await http.get("/livez")).json() == {"status": "ok"}
        assert (await http.get("/readyz")).json() == {"ready": True, "reasons": []}
        metrics = (await http.get("/metrics")).text
        documented = (await http.get("/openapi.json")).json()["paths"]
    assert 'lifepool_tasks_total{outcome="completed",pool="domains",task="find_domains"}' in metrics
    assert not {"/livez", "/readyz", "/metrics"} & documented.keys()


async def test_statistics_are_those_of_the_pool() -> None:
    async with client() as http:
        await http.post("/addContent", json={"data": SAMPLE})
        statistics = (await http.get("/statistics")).json()
    assert statistics["running"] == 0
    assert statistics["queued"] == 0


async def test_openapi_documents_bodies_and_errors() -> None:
    async with client() as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    assert {"200", "413", "422", "503", "504"} <= paths["/addContent"]["post"]["responses"].keys()
    for status in ("413", "422"):
        documented = paths["/addContent"]["post"]["responses"][status]["content"]
        assert list(documented) == ["application/problem+json"]
    assert set(paths["/upload"]["post"]["requestBody"]["content"]) == {
        "text/plain",
        "application/gzip",
        "multipart/form-data",
    }


def test_limits_are_read_from_the_environment() -> None:
    limits = Limits.from_environment({"DOMAINS_MAX_BODY": "123", "OTHER": "x"})
    assert limits.max_body == 123
    assert limits.max_upload == Limits().max_upload


@pytest.mark.parametrize("value", ["", "0", "-1", "10MB", "1e6", "²"])
def test_a_bad_limit_is_a_clear_error(value: str) -> None:
    with pytest.raises(ValueError, match=r"DOMAINS_MAX_BODY=.* must be a whole number above 0"):
        Limits.from_environment({"DOMAINS_MAX_BODY": value})


def assert_problem(response: httpx.Response, status: int, words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert words in problem["detail"]
