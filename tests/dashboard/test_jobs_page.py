"""The jobs on the live page, in a real Chromium: a server with jobs in a real store behind it."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.dashboard.looks import CHROMIUM_ARGS, POOR_CONTRAST, TOO_SMALL
from tests.dashboard.odd_tasks import MARKUP
from tests.integrations.serving import Server, end, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFEPOOL_JOBS_STORE", f"sqlite:///{tmp_path_factory.mktemp('store')}/jobs.db")
        with serving("tests.dashboard.loaded_jobs:app", "--no-access-log") as server:
            ask(server, "/fail", times=3)
            yield server
            assert end(server) == []


@pytest.fixture(scope="module")
def tab(server: Server, chromium: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        with browser.new_context(base_url=server.url) as context:
            context.set_default_timeout(PATIENCE_MS)
            yield context.new_page()
        browser.close()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """Open the jobs; afterwards check that the page complained of nothing and ran nothing."""
    complaints: list[str] = []
    listeners: dict[str, Any] = {
        "console": lambda message: complaints.append(message.text),
        "pageerror": lambda error: complaints.append(str(error)),
        "dialog": lambda dialog: complaints.append(f"a script ran: {dialog.message}"),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)  # type: ignore[call-overload]
    tab.set_viewport_size({"width": 1280, "height": 900})
    tab.goto("/pool/")
    tab.get_by_role("link", name="Jobs", exact=True).click()
    expect(tab.locator("#jobs")).to_be_visible()
    yield tab
    tab.unroute_all()
    tab.goto("about:blank")
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


@pytest.fixture
def gate() -> Iterator[tuple[str, socket.socket]]:
    """Provide a gate where jobs wait: its address, and the listening socket."""
    with tempfile.TemporaryDirectory(prefix="gate-") as folder, socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(folder, "g"))
        listener.bind(address)
        listener.listen()
        listener.settimeout(PATIENCE_MS / 1000)
        yield address, listener


def ask(server: Server, path: str, **query: Any) -> Any:
    return httpx.get(f"{server.url}{path}", params=query, timeout=PATIENCE_MS / 1000, verify=False).json()


def test_a_job_that_runs_shows_how_far_it_is_until_it_has_ended(
    page: Page, server: Server, gate: tuple[str, socket.socket]
) -> None:
    address, listener = gate
    job = ask(server, "/report", address=address)
    visitor, _ = listener.accept()
    with visitor:
        row = page.locator("#jobs-running > li", has_text="report_and_hold")
        expect(row.locator(".far")).to_have_text("42 %, 3 of 7 steps: three of seven")
        assert row.locator("progress").evaluate("bar => bar.position") == pytest.approx(3 / 7)
        expect(row).to_contain_text(job)
        expect(row).to_contain_text("user:ann")
        expect(row).to_contain_text("attempt 1 of 3")
        expect(page.locator("#jobs-counts [data-state=running] dd")).to_have_text("1")
        visitor.sendall(b"!")
        expect(row).to_have_count(0)
    expect(page.locator("#jobs-counts [data-state=succeeded] dd")).not_to_have_text("0")
    expect(page.locator("#jobs-running-empty")).to_be_visible()


def test_what_waits_and_what_runs_is_cancelled_from_the_page(
    page: Page, server: Server, gate: tuple[str, socket.socket]
) -> None:
    address, listener = gate
    waits = ask(server, "/later")
    row = page.locator("#jobs-queued > li", has_text="tomorrow")
    expect(row).to_contain_text("priority 5")
    expect(row).to_contain_text("starts in 23 h")
    row.get_by_role("button", name="Cancel job").click()
    expect(row).to_have_count(0)
    assert ask(server, "/state", job=waits) == "cancelled"
    runs = ask(server, "/report", address=address)
    visitor, _ = listener.accept()
    with visitor:
        row = page.locator("#jobs-running > li", has_text=runs)
        row.get_by_role("button", name="Cancel job").click()
        expect(row).to_have_count(0)
    assert ask(server, "/state", job=runs) == "cancelled"


def test_failures_are_grouped_open_to_a_traceback_and_can_be_retried(page: Page, server: Server) -> None:
    group = page.locator("#jobs-dead > li", has_text=MARKUP)
    expect(group).to_have_count(1)
    expect(group.locator(".times")).to_contain_text("3")
    expect(group.locator("summary")).to_contain_text(f"ValueError in {MARKUP}")
    group.locator("summary").click()
    expect(group.locator("pre")).to_contain_text("raise ValueError(message)")
    expect(group.locator("ul.jobs > li")).to_have_count(3)
    assert page.locator("#jobs img").count() == 0, "nothing in it is markup"
    retried = group.locator("ul.jobs > li .id").last.inner_text()
    group.locator("ul.jobs > li").last.get_by_role("button", name="Retry job").click()
    expect(group.locator("ul.jobs > li").first).to_contain_text(retried)  # it has failed again: the last one
    group.get_by_role("button", name="Retry these 3").click()
    expect(group.locator(".times")).to_contain_text("3")
    expect(group.locator("ul.jobs > li")).to_have_count(3)


def test_who_may_only_read_gets_no_buttons_no_tags_and_no_whole_ids(page: Page, server: Server) -> None:
    ask(server, "/later")
    page.goto("/read/only/#jobs")
    row = page.locator("#jobs-queued > li", has_text="tomorrow")
    expect(row).to_be_visible()
    assert page.locator("#jobs button").count() == 0
    state = ask(server, "/read/only/jobs.json")
    shown = [*state["queued"], *state["running"], *(job for group in state["dead"] for job in group["jobs"])]
    assert {job["id"] for job in shown} == {None}
    assert {tag for job in shown for tag in job["tags"]} == set()


def test_the_view_is_in_the_address_and_lasts(page: Page) -> None:
    assert page.url.endswith("/pool/#jobs")
    page.reload()
    expect(page.locator("#jobs")).to_be_visible()
    expect(page.locator("#main")).to_be_hidden()
    page.go_back()
    expect(page.locator("#main")).to_be_visible()
    expect(page.locator("#jobs")).to_be_hidden()


def test_a_store_that_can_not_be_read_is_said_and_what_was_there_stays(page: Page) -> None:
    expect(page.locator("#jobs-dead > li").first).to_be_visible()
    problem = {"status": 503, "detail": "the job store does not answer"}
    page.route("**/jobs.json", lambda route: route.fulfill(status=503, json=problem))
    expect(page.locator("#jobs-problem")).to_have_text("The jobs can't be read now: the job store does not answer")
    expect(page.locator("#jobs-dead > li").first).to_be_visible()
    page.unroute_all()
    expect(page.locator("#jobs-problem")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_on_it(page: Page, server: Server, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 740})
    ask(server, "/later")
    expect(page.locator("#jobs-queued > li").first).to_be_visible()
    page.locator("#jobs-dead summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(TOO_SMALL) == []
    assert page.evaluate(POOR_CONTRAST) == []
