"""The small services of `examples/gallery`: the right answer, and a clear one to what is no right question."""

from __future__ import annotations

import importlib
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx
from asgi_lifespan import LifespanManager

from benchmarks.gallery import EXAMPLES, main
from examples.gallery import samples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def served(name: str) -> AsyncIterator[httpx.AsyncClient]:
    """Start one of the services in this process, with its real pool."""
    app: Any = importlib.import_module(f"examples.gallery.{name}").app
    async with (
        LifespanManager(app, startup_timeout=60, shutdown_timeout=60) as started,
        httpx.AsyncClient(transport=httpx.ASGITransport(started.app), base_url="http://service") as client,
    ):
        yield client


async def test_the_text_of_each_page() -> None:
    async with served("pdf_text") as client:
        pages = (await client.post("/text", content=samples.pdf(2, lines=3))).json()["pages"]
        assert [page.splitlines()[-1] for page in pages] == [
            "Page 1, line 3: the quick brown fox",
            "Page 2, line 3: the quick brown fox",
        ]
        refused = await client.post("/text", content=b"%PDF-1.4 and nothing else")
        assert (refused.status_code, "this is no PDF" in refused.text) == (422, True)
        assert (await client.post("/text", content=samples.pdf(501, lines=0))).status_code == 422
        assert (await client.get("/health")).json() == "ok"


async def test_a_thumbnail() -> None:
    async with served("thumbnails") as client:
        from PIL import Image

        answer = await client.post("/thumbnail?size=64", content=samples.photo(320, 240))
        assert Image.open(BytesIO(answer.content)).size == (64, 48)
        refused = await client.post("/thumbnail", content=b"GIF89a and nothing else")
        assert (refused.status_code, "this is no picture" in refused.text) == (422, True)
        assert (await client.post("/thumbnail?size=10000", content=samples.photo(32, 32))).status_code == 413


async def test_the_score_of_a_picture() -> None:
    async with served("scoring") as client:
        assert (await client.post("/digit", json={"pixels": samples.digit()})).json() == 0
        assert (await client.post("/digit", json={"pixels": [1.0, 2.0]})).status_code == 422


async def test_the_sums_of_a_csv_file() -> None:
    async with served("aggregation") as client:
        content = b"shop,price\na,1.5\nb,10\na,2.5\n"
        assert (await client.post("/sums?by=shop&of=price", content=content)).json() == [
            {"shop": "b", "count": 1, "sum": 10.0, "mean": 10.0},
            {"shop": "a", "count": 2, "sum": 4.0, "mean": 2.0},
        ]
        refused = await client.post("/sums?by=town&of=price", content=content)
        assert (refused.status_code, "expected the columns 'town' and 'price'" in refused.text) == (422, True)
        assert (await client.post("/sums?by=shop&of=price", content=b'"no end')).status_code == 422


async def test_markdown_becomes_html() -> None:
    async with served("markdown_pages") as client:
        html = (await client.post("/html", content=b"# Hello\n\n<script>alert()</script>")).text
        assert "<h1>Hello</h1>" in html
        assert "<script>" not in html


async def test_a_password_is_known_again() -> None:
    async with served("passwords") as client:
        stored = (await client.post("/hash", json={"password": "correct horse"})).json()
        assert (await client.post("/check", json={"password": "correct horse", "stored": stored})).json() is True
        assert (await client.post("/check", json={"password": "wrong horse", "stored": stored})).json() is False
        assert (await client.post("/check", json={"password": "x", "stored": "nonsense"})).status_code == 422


def test_each_example_can_be_measured_before_and_after(tmp_path: Path) -> None:
    target = tmp_path / "gallery.md"
    assert main(["markdown_pages", "--rounds", "1", "--seconds", "0.2", "--output", str(target)]) == 0
    assert "(`markdown_pages.py`)" in target.read_text()
    assert set(EXAMPLES) == {"pdf_text", "thumbnails", "scoring", "aggregation", "markdown_pages", "passwords"}
