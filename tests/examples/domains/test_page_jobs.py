"""A big file on the page: a real Chromium sends it as a job, sees how far it is, and comes back to it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.dashboard.looks import CHROMIUM_ARGS
from tests.examples.domains.serving import Service, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)

#: Written down in the page itself, for what a test that looks now and then would miss.
WATCH_THE_BAR = """() => {
    window.seen = [];
    const bar = document.getElementById("bar"), what = document.getElementById("job-what");
    new MutationObserver(() => {
        if (what.textContent === "Searching" && bar.hasAttribute("value")) window.seen.push(bar.value);
    }).observe(document.getElementById("job"), { subtree: true, attributes: true, childList: true });
}"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as service:
        yield service


@pytest.fixture(scope="module")
def tab(service: Service, chromium: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        with browser.new_context(base_url=service.url) as context:
            context.set_default_timeout(PATIENCE_MS)
            yield context.new_page()
        browser.close()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """Open the page; afterwards check that it complained of nothing."""
    complaints: list[str] = []

    def listen(message: object) -> None:
        complaints.append(str(getattr(message, "text", message)))

    tab.on("console", listen)
    tab.on("pageerror", listen)
    tab.goto("/")
    yield tab
    tab.goto("about:blank")
    tab.remove_listener("console", listen)
    tab.remove_listener("pageerror", listen)
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a file that takes a few seconds: international names, each of them new, are the dearest text there is."""
    letters = str.maketrans("0123456789", "äöüßéèñçåø")
    path = tmp_path_factory.mktemp("files") / "log.txt"
    with path.open("w", encoding="utf-8") as file:
        file.write("".join(f"{number:08}.de ".translate(letters) for number in range(40_000)))
        file.write("plain words that hold no name " * 60_000 + "www.example.com\n")
    assert path.stat().st_size > 2_000_000
    return path


def choose(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(path)


def test_a_big_file_is_a_job_with_a_bar_that_moves_and_survives_a_reload(page: Page, slow_file: Path) -> None:
    page.evaluate(WATCH_THE_BAR)
    choose(page, slow_file)
    expect(page.locator("#job-what")).to_have_text("Searching")
    page.wait_for_function("() => new Set(window.seen.filter((far) => 0 < far && far < 1)).size >= 3")
    seen = page.evaluate("window.seen")
    assert seen == sorted(seen)
    expect(page.locator("#job-far")).to_contain_text("MB searched")
    address = page.url
    assert "#job=" in address

    page.reload()
    expect(page.locator("#job-what")).to_have_text("Searching")
    page.wait_for_function("() => document.getElementById('bar').value > 0")
    expect(page.get_by_role("status")).to_contain_text("40,001 names")
    expect(page.locator("#job")).to_be_hidden()
    expect(page.get_by_role("status")).to_contain_text("s on the server")
    page.get_by_label("Filter").fill("www.example.com")
    expect(page.locator("#rows tr")).to_have_count(1)

    assert page.url == address
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("40,001 names")
    page.get_by_role("button", name="Clear").click()
    assert "#" not in page.url


def test_a_job_is_stopped_from_the_page(page: Page, slow_file: Path) -> None:
    choose(page, slow_file)
    expect(page.locator("#job-what")).to_have_text("Searching")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("alert")).to_contain_text("The job was stopped.")
    expect(page.locator("#job")).to_be_hidden()


def test_a_job_that_is_gone_and_a_file_that_is_damaged_are_explained(
    page: Page, service: Service, tmp_path: Path
) -> None:
    page.goto("/#job=01a221c4-047d-74fe-8ace-b7f4b0f48148")
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("This job is not there any more.")
    path = tmp_path / "log.gz"
    path.write_bytes(b"\x1f\x8b\x08" + random.Random(1).randbytes(2_100_000))
    choose(page, path)
    expect(page.get_by_role("alert")).to_contain_text("damaged")


def test_it_fits_a_phone(page: Page, slow_file: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    choose(page, slow_file)
    expect(page.locator("#job-far")).to_contain_text("MB searched")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#job")).to_be_hidden()
