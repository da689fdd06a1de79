"""A big file on the page: a real Chromium sends it as a job, sees how far it is, and comes back to it."""

from __future__ import annotations

import contextlib
import os
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
ALL = 1000  # pieces: more than a file has


class Gate:
    """Where the search of the service waits after each piece (`held`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def let(self, pieces: int) -> None:
        """Let so many pieces pass."""
        os.write(self._pipe, bytes(pieces))

    def shut(self) -> None:
        """Take back what did not pass."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._pipe, ALL)

    def close(self) -> None:
        """Let all that wait pass."""
        os.close(self._pipe)


@pytest.fixture(scope="module")
def lasting_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    gate = Gate(tmp_path_factory.mktemp("gate") / "pipe")
    yield gate
    gate.close()


@pytest.fixture
def gate(lasting_gate: Gate) -> Gate:
    lasting_gate.shut()
    return lasting_gate


@pytest.fixture(scope="module")
def service(lasting_gate: Gate) -> Iterator[Service]:
    with running("tests.examples.domains.held", GATE=str(lasting_gate.path)) as service:
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
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "log.txt"
    with path.open("w", encoding="utf-8") as file:
        file.write("".join(f"{number:08}.de " for number in range(40_000)))
        file.write("plain words that hold no name " * 60_000 + "www.example.com\n")
    assert path.stat().st_size > 2_000_000
    return path


def bar_after(page: Page, far: float) -> float:
    """Wait for the bar to be farther than `far`; return where it is."""
    page.wait_for_function(f"() => document.getElementById('bar').value > {far}")
    return float(page.evaluate("document.getElementById('bar').value"))


def choose(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(path)


def test_a_big_file_is_a_job_with_a_bar_that_moves_and_survives_a_reload(
    page: Page, big_file: Path, gate: Gate
) -> None:
    choose(page, big_file)
    expect(page.locator("#job-what")).to_have_text("Searching")
    seen = [bar_after(page, 0)]
    for _ in range(2):
        gate.let(1)
        seen.append(bar_after(page, seen[-1]))
    assert seen[-1] < 1
    expect(page.locator("#job-far")).to_contain_text("MB searched")
    address = page.url
    assert "#job=" in address

    page.reload()
    expect(page.locator("#job-what")).to_have_text("Searching")
    assert bar_after(page, 0) >= seen[-1]
    gate.let(ALL)
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


@pytest.mark.usefixtures("gate")
def test_a_job_is_stopped_from_the_page(page: Page, big_file: Path) -> None:
    choose(page, big_file)
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


@pytest.mark.usefixtures("gate")
def test_it_fits_a_phone(page: Page, big_file: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    choose(page, big_file)
    expect(page.locator("#job-far")).to_contain_text("MB searched")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#job")).to_be_hidden()
