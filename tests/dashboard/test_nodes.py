"""The nodes of a cluster on the live page, in Chromium, and in the terminal."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from rich.console import Console

import lifepool
from lifepool.cli.top.view import View
from lifepool.dashboard.cluster import MAX_NODES, cluster_of
from lifepool.statistics import ClusterStatistics, HistogramSnapshot, NodeSnapshot
from tests.cli.runner import lifepool as command
from tests.dashboard.looks import CHROMIUM_ARGS, POOR_CONTRAST
from tests.dashboard.test_page import PATIENCE_MS, ask
from tests.integrations.serving import Server, end, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("tests.dashboard.cluster:app", "--no-access-log") as server:
        ask(server, "/double?times=20")
        while len((ask(server, "/pool/state.json")["cluster"] or {"nodes": []})["nodes"]) < 2:
            pass
        yield server
        assert end(server) == []


def test_the_page_shows_nodes_and_why_no_calls_are_taken(server: Server, chromium: str) -> None:
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        page = browser.new_page(base_url=server.url)
        page.set_default_timeout(PATIENCE_MS)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/pool/")
        expect(page.locator("#nodes tbody tr")).to_have_count(2)
        expect(page.locator("#nodes-note")).to_have_text("2 nodes, 3 slots, loopback")
        expect(page.locator("#nodes tbody tr").first).to_contain_text(lifepool.__version__)
        for label in ("Queued at the cluster", "Overhead of a call, p50", "Answers that came twice"):
            expect(page.locator("#nodes-numbers")).to_contain_text(label)
        expect(page.locator("#nodes-problem")).to_be_hidden()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(POOR_CONTRAST) == []
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page itself never scrolls"
        ask(server, "/cut")
        expect(page.locator("#nodes-problem")).to_contain_text("it can't be reached: it was cut", timeout=PATIENCE_MS)
        expect(page.locator("#verdict")).to_contain_text("The cluster takes no calls")
        ask(server, "/mend")
        expect(page.locator("#nodes-problem")).to_be_hidden(timeout=PATIENCE_MS)
        assert errors == []
        browser.close()


def test_the_terminal_shows_them_too(server: Server) -> None:
    done = command("top", f"{server.url}/pool", "--once", COLUMNS="110")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"cluster loopback +2 nodes, 3 slots", done.stdout)
    assert len(re.findall(rf"ready +\d +[12] .*{re.escape(lifepool.__version__)}", done.stdout)) == 2
    assert max(map(len, done.stdout.splitlines())) <= 110


def node(number: int, **fields: Any) -> NodeSnapshot:
    usual: dict[str, Any] = {
        "node": f"id-{number}", "name": f"host:{number}", "state": "ready", "slots": 4, "running": number,
        "workers": {}, "refused": {"expired": number}, "heard_s": 0.1, "clock_offset_s": None, "lifepool": "1",
        "python": "3", "allow": (),
    }  # fmt: skip
    return NodeSnapshot(**{**usual, **fields})


def statistics(*nodes: NodeSnapshot, **fields: Any) -> ClusterStatistics:
    usual: dict[str, Any] = {
        "address": "redis://host", "connected": True, "unavailable": None, "nodes": nodes, "slots": 4 * len(nodes),
        "unsent": 1, "queued": 2, "taken": 3, "overhead": HistogramSnapshot((1.0,), (0, 0), 0.0), "redelivered": 0,
        "refused": {"unsigned": 2}, "refused_by_nodes": {"expired": 3}, "log_records_dropped": 0,
    }  # fmt: skip
    return ClusterStatistics(**{**usual, **fields})


def test_many_nodes_are_cut_to_the_busiest() -> None:
    shown = cluster_of(statistics(*(node(number) for number in range(1000))))
    assert shown is not None
    assert (shown["node_count"], len(shown["nodes"]), shown["slots"]) == (1000, MAX_NODES, 4000)
    assert {each["running"] for each in shown["nodes"]} == set(range(1000 - MAX_NODES, 1000))
    assert len(json.dumps(shown)) < 100_000


def test_what_a_node_says_of_itself_can_hurt_neither_page_nor_terminal() -> None:
    shown = cluster_of(statistics(node(1, name="\x1b[2J" + "x" * 10_000, lifepool="\x1b]0;owned\x07"), slots=4))
    assert shown is not None
    assert "\x1b" not in json.dumps(shown, ensure_ascii=False)
    assert len(shown["nodes"][0]["name"]) < 200


def test_the_largest_clock_offset_counts_either_way() -> None:
    both = statistics(node(1, clock_offset_s=-3.0), node(2, clock_offset_s=0.2), node(3))
    assert both.clock_offset_s == 3.0
    assert statistics(node(1)).clock_offset_s is None


def test_the_terminal_says_what_does_not_fit(server: Server) -> None:
    state = ask(server, "/pool/state.json")
    nodes = [node(number) for number in range(50)]
    state["cluster"] = cluster_of(statistics(*nodes, unavailable="it was cut", redelivered=7))
    console = Console(width=100, height=40, record=True, file=io.StringIO())
    view = View()
    view.take(state)
    console.print(view.draw(state, 100, 40))
    text = console.export_text()
    assert "50 nodes" in text
    assert "it was cut" in text
    assert re.search(r"and 4\d more", text)
    assert "1 unsent, 2 queued, 3 taken" in text
    assert "overhead p50" in text
    assert "7 redelivered" in text
    assert "5 refused" in text
    del state["cluster"]  # as a server of an earlier version says it
    console.print(view.draw(state, 100, 40))
