"""The live page in a real Chromium, with a real uvicorn and real workers behind it."""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.dashboard.looks import CHROMIUM_ARGS, FOCUSED, POOR_CONTRAST, TOO_SMALL
from tests.dashboard.odd_tasks import MARKUP
from tests.integrations.serving import Server, end, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

PHONE, DESKTOP = (360, 740), (1280, 900)
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCESS", "act")
        with serving("tests.dashboard.loaded:app", "--no-access-log") as server:
            ask(server, "/crash")  # before the tests, which may leave no new process behind
            while ask(server, "/pool/state.json")["counts"]["workers"] != {"ready": 2}:
                pass
            yield server
            if server.process.poll() is None:
                assert end(server) == []


@pytest.fixture(scope="module")
def tab(server: Server, chromium: str) -> Iterator[Page]:
    """Provide one tab for all tests: new ones would start browser processes that linger for seconds."""
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        with browser.new_context(base_url=server.url) as context:
            context.set_default_timeout(PATIENCE_MS)
            yield context.new_page()
        browser.close()


@pytest.fixture
def expected() -> list[str]:
    """Provide a list for the beginnings of complaints that a test expects."""
    return []


@pytest.fixture
def page(tab: Page, server: Server, expected: list[str]) -> Iterator[Page]:
    """Open the page; afterwards check that it complained of nothing, ran nothing and called nobody else."""
    complaints: list[str] = []
    requests: list[str] = []
    listeners: dict[str, Any] = {
        "console": lambda message: complaints.append(message.text),
        "pageerror": lambda error: complaints.append(str(error)),
        "dialog": lambda dialog: complaints.append(f"a script ran: {dialog.message}"),
        "request": lambda request: requests.append(request.url),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)  # type: ignore[call-overload]
    tab.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    tab.emulate_media(color_scheme="light")
    tab.goto("/pool/")
    expect(tab.locator("#link-text")).to_have_text("live")
    yield tab
    tab.unroute_all()
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert [url for url in requests if not url.startswith(server.url)] == []
    # The browser itself reports a refused request in its console; all else is a fault of the page.
    assert [text for text in complaints if not text.startswith(("Failed to load resource", *expected))] == []


@pytest.fixture
def gate() -> Iterator[tuple[str, socket.socket]]:
    """Provide a gate where tasks wait, for tests without an event loop: its address, and the listening socket."""
    with tempfile.TemporaryDirectory(prefix="gate-") as folder, socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(folder, "g"))
        listener.bind(address)
        listener.listen()
        listener.settimeout(PATIENCE_MS / 1000)
        yield address, listener


def ask(server: Server, path: str, **query: Any) -> Any:
    return httpx.get(f"{server.url}{path}", params=query, timeout=PATIENCE_MS / 1000, verify=False).json()


def count(page: Page, label: str) -> int:
    line = page.locator("#totals > div", has=page.locator("dt", has_text=label))
    return int(line.locator("dd").inner_text().replace(",", ""))


# --- what is seen ---------------------------------------------------------------------------------------------------


def test_load_shows_up_and_the_charts_move(page: Page, server: Server) -> None:
    chart = page.locator("#throughput-value ~ svg path.completed")
    before = chart.get_attribute("d") or ""
    done = count(page, "Completed")
    ask(server, "/double", times=300)
    page.wait_for_function(
        "n => Number(document.querySelector('#totals div:nth-child(2) dd').textContent.replace(',', '')) >= n",
        arg=done + 300,
    )
    expect(page.locator("#names tbody tr", has_text="double")).to_be_visible()
    expect(page.locator("#workers tbody tr")).to_have_count(2)
    expect(page.locator("#throughput-value")).not_to_have_text("0 /s")
    assert chart.get_attribute("d") != before
    x = page.locator("#throughput-value ~ svg path.completed").get_attribute("d")
    page.wait_for_function(
        "d => document.querySelector('#throughput-value ~ svg path.completed').getAttribute('d') !== d", arg=x
    )


def test_a_failure_opens_to_the_workers_traceback_and_nothing_in_it_is_markup(page: Page, server: Server) -> None:
    ask(server, "/fail")
    failure = page.locator("#failures > li", has_text=MARKUP).first
    failure.locator("summary").click()
    expect(failure.locator("pre")).to_contain_text("raise ValueError(message)")
    expect(failure.locator("pre")).to_contain_text(f"ValueError: {MARKUP}")
    expect(page.locator("#names")).to_contain_text(MARKUP)
    failure.locator(".tasks button").last.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".task-name")).to_contain_text(MARKUP)
    expect(dialog.locator("dl")).to_contain_text(repr(MARKUP))
    assert page.locator("main img, dialog img").count() == 0
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_task_is_cancelled_from_its_details(page: Page, server: Server, gate: tuple[str, socket.socket]) -> None:
    address, listener = gate
    number = ask(server, "/hold", address=address)
    visitor, _ = listener.accept()
    with visitor:
        row = page.locator("#workers tbody tr", has_text=f"#{number}")
        expect(row).to_contain_text("hold")
        expect(page.locator("#oldest tbody tr")).to_contain_text([f"#{number}"])
        row.get_by_role("button", name=f"Details of task {number}").click()
        expect(page.locator("#details .state")).to_have_text("running")
        expect(page.locator("#details dl")).to_contain_text(address)
        page.get_by_role("button", name=f"Cancel task #{number}").click()
        expect(page.locator("#details .state")).to_have_text("cancelled")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#workers tbody tr", has_text=f"#{number}")).to_have_count(0)


def test_who_may_only_read_is_offered_no_action_and_refused_one(page: Page, server: Server) -> None:
    page.goto("/read/only/")
    expect(page.locator("#link-text")).to_have_text("live")
    expect(page.locator("#actions")).to_be_hidden()
    status = page.evaluate(
        """fetch("actions/drain", { method: "POST", headers: { "X-Lifepool-Action": "drain" } })
            .then(answer => answer.status)"""
    )
    assert status == 403
    assert ask(server, "/pool/state.json")["pool"]["state"] == "running"


def test_draining_asks_first(page: Page, server: Server) -> None:
    page.get_by_role("button", name="Drain…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("takes no more tasks")
    expect(dialog.get_by_role("button", name="Leave it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert ask(server, "/pool/state.json")["pool"]["state"] == "running"


def test_a_dead_worker_is_reported(page: Page) -> None:
    expect(page.locator("#exits li").first).to_contain_text("died · exit code 3")
    expect(page.locator("#workers-note")).to_contain_text("died")
    expect(page.locator("#failures > li", has_text="WorkerLost")).to_contain_text("exited with code 3")


# --- the link -------------------------------------------------------------------------------------------------------


def test_it_says_that_the_server_is_gone_and_goes_on_when_it_is_back(page: Page) -> None:
    page.route("**/state.json*", lambda route: route.abort())
    expect(page.locator("#link-text")).to_contain_text("disconnected")
    page.unroute_all()
    expect(page.locator("#link-text")).to_have_text("live")


def test_it_asks_nothing_while_nobody_looks(page: Page) -> None:
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#link-text")).to_have_text("paused")
    page.evaluate("document.querySelector('#pause').click()")
    expect(page.locator("#link-text")).to_have_text("live")
    page.evaluate(
        """Object.defineProperty(document, "hidden", { value: true, configurable: true });
           document.dispatchEvent(new Event("visibilitychange"))"""
    )
    expect(page.locator("#link-text")).to_have_text("paused: not in view")
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#link-text")).to_have_text("live")


def test_polls_after_the_first_are_small(page: Page) -> None:
    with page.expect_response("**/state.json*") as poll:
        pass
    before = poll.value.json()["now"]
    with page.expect_response("**/state.json*") as poll:
        pass
    state = poll.value.json()
    assert state["continued"]
    assert len(state["history"]["points"]) <= state["now"] - before + 2, "one a second"
    assert len(poll.value.body()) < 20_000


# --- for everybody --------------------------------------------------------------------------------------------------


def test_everything_can_be_reached_with_the_keyboard(page: Page, server: Server) -> None:
    ask(server, "/fail")
    expect(page.locator("#failures > li")).not_to_have_count(0)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    wanted = ["skip", "task", "Details", "pause", "theme", "recycle", "drain", *["chart"] * 6, "scroll"]
    assert reached[: len(wanted)] == wanted
    assert {"count", "failures", "run_max"} <= set(reached)
    visible = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert visible != "none"
    page.locator(".chart").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".when").first).to_have_text(page.locator(".when").nth(3).inner_text())
    assert ":" in page.locator(".when").first.inner_text()
    page.keyboard.press("Escape")
    expect(page.locator(".when").first).to_have_text("last minute")
    page.locator("#task").fill("999999")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("nothing is known of this task")
    page.keyboard.press("Escape")
    expect(page.locator("#task")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_on_it(page: Page, server: Server, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    ask(server, "/fail")
    expect(page.locator("#failures > li")).not_to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert page.evaluate(TOO_SMALL) == []
    assert page.evaluate(POOR_CONTRAST) == []


def test_on_a_phone_what_is_wrong_comes_before_the_charts_and_a_cut_table_says_so(page: Page, server: Server) -> None:
    ask(server, "/fail")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    expect(page.locator("#failures > li")).not_to_have_count(0)
    tops = {
        name: page.evaluate(f"document.querySelector('{name}').getBoundingClientRect().top")
        for name in ("#verdict", "#failures-panel", "#instruments", "#workers", "footer")
    }
    assert list(tops) == sorted(tops, key=lambda name: tops[name])
    expect(page.locator(".scroll:has(#names)").locator("xpath=preceding-sibling::p[1]")).to_be_visible()
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    expect(page.locator(".swipe:visible")).to_have_count(0)


def changed(page: Page, **changes: Any) -> None:
    """Replace what the server says to the page, from the next answer on."""

    def answer(route: Any) -> None:
        state = route.fetch().json()
        for part, change in changes.items():
            state[part] = {**state[part], **change} if isinstance(change, dict) else change
        route.fulfill(json=state)

    page.route("**/state.json*", answer)


def test_the_worst_is_said_first(page: Page) -> None:
    changed(page, verdict={"level": "good", "text": "All is well: 2 of 2 workers are up."})
    expect(page.locator("#verdict")).to_have_text("All is well: 2 of 2 workers are up.")
    expect(page.locator("#state")).to_have_attribute("data-state", "ready")
    changed(page, verdict={"level": "bad", "text": "Refusing 79 % of calls: more comes than the workers can do."})
    expect(page.locator("#verdict")).to_have_text("Refusing 79 % of calls: more comes than the workers can do.")
    expect(page.locator("#state")).to_have_text("running, ready")
    expect(page.locator("#state")).to_have_attribute("data-state", "bad")
    assert page.title().startswith("! ")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert page.evaluate(POOR_CONTRAST) == []


def test_of_several_server_processes_it_says_that_it_shows_and_reaches_one(page: Page) -> None:
    expect(page.locator("#processes")).to_have_text("one server process")
    changed(page, server={"processes": 3})
    expect(page.locator("#processes")).to_contain_text("one of 3 server processes")
    for button in ("#drain", "#recycle"):
        page.click(button)
        expect(page.locator("#confirm-text")).to_contain_text("This reaches one server process of 3")
        page.click("#confirm-no")


def test_a_pool_with_two_backends_says_what_each_does(page: Page, server: Server) -> None:
    here, there = ({"running": n, "queued": 2 * n, "completed": 1000 * n} for n in (1, 2))
    routing = {"mode": "overflow", "breaker": "open", "breaker_opened": 3, "moved": 4, "local": here, "remote": there}
    cluster = ask(server, "/pool/state.json")["workers"][0] | {"number": -1}
    expect(page.locator("#routing")).to_be_hidden()
    changed(page, counts={"routing": routing}, workers=[cluster])
    expect(page.locator("#routing")).to_have_text(
        "overflow · this machine: 1 run, 2 wait, 1,000 done · cluster: 2 run, 4 wait, 2,000 done"
        " · circuit breaker open, opened 3 times · 4 came back from the cluster"
    )
    expect(page.locator("#workers th", has_text="cluster")).to_have_count(1)


def test_short_tasks_are_not_shown_as_idle_workers_or_invented_figures(page: Page) -> None:
    window = {"utilisation": 0.001, "occupied": 1.0, "shortest": 5e-5, "run": [5e-5, 5e-5, 1e-3]}
    changed(page, window=window, counts={"workers": {"busy": 2}})
    expect(page.locator("#utilisation-value")).to_have_text("< 1 %")
    expect(page.locator("#utilisation-detail")).to_contain_text("2 of 2 have a task")
    expect(page.locator("#utilisation-detail")).to_contain_text("short tasks")
    expect(page.locator("#run-value")).to_have_text("< 50 µs")
    expect(page.locator("#run-detail")).to_contain_text("p99 1.00 ms")


def test_a_worker_that_could_not_start_shows_the_exceptions_own_line(page: Page) -> None:
    error = "Traceback (most recent call last):\n  File x\nRuntimeError: no model"
    gone = {"t": 1.0, "worker": 77, "reason": "failed to start", "exitcode": 1, "signal": None, "completed": 0}
    changed(page, exits=[{**gone, "start_error": error}])
    expect(page.locator("#exits summary .message")).to_have_text("RuntimeError: no model")


def test_text_from_elsewhere_does_not_turn_around_what_stands_beside_it(page: Page, server: Server) -> None:
    ask(server, "/fail")
    name = page.locator("#failures .name").first
    expect(name).to_be_visible()
    assert name.evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"
    assert page.locator("#failures .message").first.evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"


def test_the_theme_can_be_chosen_and_is_remembered(page: Page) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    dark = page.evaluate(ground)
    assert light != dark
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Theme: dark").click()
    assert page.evaluate(ground) == light


def test_nothing_moves_for_those_who_asked_for_that(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate("document.getAnimations().filter(a => a.playState === 'running').length") == 0
    page.emulate_media(reduced_motion="no-preference")


def test_the_policy_holds_even_if_markup_got_in(page: Page, expected: list[str]) -> None:
    expected.append("Executing inline event handler violates")
    refused = page.evaluate(
        """() => new Promise(resolve => {
            addEventListener("securitypolicyviolation", e => resolve(e.effectiveDirective));
            const image = document.createElement("img");
            image.setAttribute("onerror", "alert(2)");
            image.src = "static/none.svg";
            document.body.append(image);
        })"""
    )
    assert refused == "script-src-attr"


def test_all_workers_are_replaced(tab: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server of its own: the new workers would look like something that this test has left behind."""
    monkeypatch.setenv("ACCESS", "act")
    with serving("tests.dashboard.loaded:app", "--no-access-log") as server:
        before = {worker["number"] for worker in ask(server, "/pool/state.json")["workers"]}
        tab.goto(f"{server.url}/pool/")
        tab.get_by_role("button", name="Replace workers").click()
        dialog = tab.get_by_role("dialog")
        expect(dialog).to_contain_text("Nothing is lost")
        dialog.get_by_role("button", name="Replace workers").click()
        expect(dialog).to_be_hidden()
        expect(tab.locator("#exits li", has_text="recycled")).to_have_count(len(before), timeout=PATIENCE_MS)
        deadline = time.monotonic() + PATIENCE_MS / 1000  # workers are looked at once a second
        while (after := {worker["number"] for worker in ask(server, "/pool/state.json")["workers"]}) & before:
            assert time.monotonic() < deadline
        assert len(after) == len(before)
        tab.goto("about:blank")
        assert end(server) == []


# --- the end --------------------------------------------------------------------------------------------------------


def test_an_open_page_does_not_keep_the_server_from_ending(tab: Page, server: Server) -> None:
    """Last: it ends the server. The page then says so."""
    tab.goto("/pool/")
    expect(tab.locator("#link-text")).to_have_text("live")
    assert end(server) == []
    expect(tab.locator("#link-text")).to_contain_text("disconnected")
