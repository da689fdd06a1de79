"""Look at the site that was built: every link and anchor of it, what it loads, and how it looks in a browser.

``make docs-site`` builds it and runs this; it is no test of the suite, which has no mkdocs.
"""

from __future__ import annotations

import functools
import http.server
import os
import threading
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tests.docs.markdown import ROOT
from tests.docs.site import DOCS, on_site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SITE = ROOT / "site"
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("source", "src"), ("iframe", "src")}
NOT_LOADED = {"canonical", "prev", "next", "alternate", "edit"}  # kinds of <link> that only name an address
LOOKED_AT = [
    "",
    "tutorial/",
    "tutorial/5-a-text-without-end/",
    "how-to/deploy/",
    "architecture/",
    "reference/states/",
    "zh/tutorial/1-a-service-that-hangs/",
]
SEARCHED = {"notebook": "how-to/use-in-a-notebook/", "事件循环": "zh/tutorial/"}
#: The diagrams of a page, each with some of its labels.
DIAGRAMS = {
    "architecture/": [["Engine", "worker", "asks for a fork"], ["caller", "submit(fn, args)", "RESULT frame"]],
    "reference/states/": [["QUEUED", "TIMED_OUT"], ["STARTING", "STOPPING"], ["CREATED", "CLOSED"]],
}
#: Where to keep pictures of the pages, for people to look at.
PICTURES = os.environ.get("SITE_PICTURES")


class Parsed(HTMLParser):
    """The links, the anchors and the loaded files of one page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.anchors.add(has.get("id", ""))
        for name in {"href", "src"} & set(has):
            if (tag, name) in LOADED and has.get("rel") not in NOT_LOADED:
                self.loaded.append(has[name])
            self.links.append(has[name])


PARSED = {page: Parsed(page) for page in SITE.rglob("*.html")}


def file_of(page: Path, path: str) -> Path:
    """The file that a browser gets which follows a link of this page."""
    target = SITE / path.lstrip("/") if path.startswith("/") else page.parent / path
    target = target.resolve()
    return target / "index.html" if target.is_dir() else target


def test_the_site_has_every_page() -> None:
    for page in DOCS.rglob("*.md"):
        where = on_site(page).removesuffix(".md").removesuffix("README")
        assert (SITE / where / "index.html").exists(), page
    assert len(PARSED) > 100


def test_every_link_and_every_anchor_leads_somewhere() -> None:
    broken = []
    for page, parsed in PARSED.items():
        for link in parsed.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = file_of(page, unquote(parts.path)) if parts.path else page
            anchors = PARSED[target].anchors if target in PARSED else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append((page.relative_to(SITE).as_posix(), link))
    assert broken == []


def test_nothing_is_loaded_from_elsewhere() -> None:
    found = {(page.name, link) for page, parsed in PARSED.items() for link in parsed.loaded if urlsplit(link).netloc}
    assert found == set()


def test_the_words_around_a_page_are_in_its_language() -> None:
    assert '<html lang="en"' in (SITE / "tutorial" / "index.html").read_text()
    chinese = (SITE / "zh" / "tutorial" / "index.html").read_text()
    assert '<html lang="zh"' in chinese
    assert "下一页" in chinese


@pytest.fixture
def address() -> Iterator[str]:
    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Silent, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as launched:
        yield launched


@pytest.mark.parametrize("kind", ["light", "dark", "phone"])
def test_pages_can_be_read(browser: Browser, address: str, kind: Literal["light", "dark", "phone"]) -> None:
    viewport: ViewportSize = {"width": 390, "height": 844} if kind == "phone" else {"width": 1280, "height": 900}
    scheme: Literal["dark", "light"] = "dark" if kind == "dark" else "light"
    page = browser.new_page(viewport=viewport, color_scheme=scheme)
    asked: list[str] = []
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else asked.append(answer.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    for path in LOOKED_AT:
        page.goto(f"{address}/{path}", wait_until="networkidle")
        if PICTURES:
            name = path.strip("/").replace("/", "-") or "start"
            page.screenshot(path=f"{PICTURES}/{kind}-{name}.png", full_page=kind != "phone")
        width, seen = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width <= seen, "the page itself does not scroll to the side"
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (kind != "dark")
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert failed == []


@pytest.mark.parametrize("kind", ["light", "dark", "phone"])
def test_diagrams_are_drawn_with_labels_that_can_be_read(
    browser: Browser, address: str, kind: Literal["light", "dark", "phone"]
) -> None:
    page = browser.new_page(
        viewport={"width": 390 if kind == "phone" else 1280, "height": 900},
        color_scheme="dark" if kind == "dark" else "light",
        java_script_enabled=kind != "phone",  # they are drawn already
    )
    for path, labels in DIAGRAMS.items():
        page.goto(f"{address}/{path}", wait_until="networkidle")
        assert page.locator("code", has_text="-->").count() == 0, "no source is left"
        shown = page.locator("figure.diagram svg:visible")
        assert shown.count() == len(labels), "each once: in the colours of this ground"
        for index, names in enumerate(labels):
            for name in names:
                label = shown.nth(index).get_by_text(name, exact=True).first
                box = label.bounding_box()
                assert box is not None, name
                assert 9 <= box["height"] <= 40, name
        if PICTURES:
            shown.first.screenshot(path=f"{PICTURES}/diagram-{kind}-{path.strip('/').replace('/', '-')}.png")


def test_the_search_and_the_other_language_are_found(browser: Browser, address: str) -> None:
    page = browser.new_page()
    for word, where in SEARCHED.items():
        page.goto(f"{address}/tutorial/")
        page.locator(".md-search__input").fill(word)
        page.locator(f".md-search-result__link[href*='{where}']").first.wait_for(state="attached", timeout=20_000)
    page.goto(f"{address}/tutorial/5-a-text-without-end/")
    page.get_by_role("link", name="中文").first.click()
    page.wait_for_url("**/zh/tutorial/5-a-text-without-end/", timeout=20_000)
    page.get_by_role("link", name="English").first.click()
    page.wait_for_url(f"{address}/tutorial/5-a-text-without-end/", timeout=20_000)
