"""Draw the state as a screen for a terminal: all that fits its height, the most urgent first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lifepool.cli.top.nodes import nodes_table, numbers_of_cluster
from lifepool.cli.top.quantities import age, below, clock, count, memory, percent, plain, rate, seconds
from lifepool.cli.top.tables import plain_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

BARS = " ▁▂▃▄▅▆▇█"
#: Points kept for the small charts.
KEPT = 300
FAILED = ("failed", "timed_out", "lost", "refused")


class View:
    """The screen of one server's pool, with its last minutes for the small charts."""

    def __init__(self) -> None:
        self._points: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def take(self, state: dict[str, Any]) -> None:
        """Keep what is new in a state."""
        history = state["history"]
        if not state["continued"]:
            self._points.clear()
        self._points.extend(dict(zip(history["columns"], values, strict=True)) for values in history["points"])

    def draw(self, state: dict[str, Any], width: int, height: int, trouble: str = "") -> RenderableType:
        """Draw a screen.

        Args:
            state: What the server said last.
            width: Columns of the terminal.
            height: Its lines; what does not fit is left out, and how much that is is said.
            trouble: Why the state is old, if it is.
        """
        lines: list[RenderableType] = [_head(state, width, trouble), self._numbers(state, width)]
        left = height - (11 if state["counts"].get("routing") else 10)
        cluster = state.get("cluster")  # a server of an earlier version has none
        if cluster is not None:
            for_nodes = min(len(cluster["nodes"]), max(1, left // 3))
            lines.append(numbers_of_cluster(cluster))
            lines.append(nodes_table(cluster["nodes"], for_nodes))
            left -= for_nodes + 4
        workers, failures, names = state["workers"], state["failures"], state["names"]
        for_failures = min(len(failures), max(1, left // 4)) if failures else 0
        for_names = min(len(names), max(1, left // 4)) if names else 0
        for_workers = max(1, left - (for_failures and for_failures + 1) - (for_names and for_names + 1) - 1)
        lines.append(_workers(workers, for_workers))
        if for_names:
            lines.append(_names(names[:for_names]))
        if for_failures:
            lines.append(_failures(failures[:for_failures], state["now"]))
        return Group(*lines)

    def _numbers(self, state: dict[str, Any], width: int) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(width=12, style="dim")
        table.add_column(width=10, style="bold", no_wrap=True)
        table.add_column(no_wrap=True, ratio=1)
        table.add_column(width=max(8, min(40, width - 72)), no_wrap=True, style="cyan")
        window, counts = state["window"], state["counts"]
        chart = max(8, min(40, width - 72))
        failing = ", ".join(f"{name.replace('_', ' ')} {rate(window[name])}" for name in FAILED if window.get(name))
        busy = f"{counts['workers'].get('busy', 0)} of {sum(counts['workers'].values())} workers have a task"
        queue = f"of {count(state['pool']['max_queue'])}, predicted wait {seconds(counts['predicted_wait_s'])}"
        throughput = sum(window.get(name) or 0.0 for name in ("completed", "failed", "timed_out", "lost", "cancelled"))
        table.add_row("throughput", rate(throughput), Text(failing, "red"), self._chart("completed", chart))
        table.add_row(
            "utilisation", percent(window.get("utilisation")), busy, self._chart("utilisation", chart, top=1.0)
        )
        table.add_row("queue", count(counts["queued"]), queue, self._chart("queued", chart))
        if routing := counts.get("routing"):  # a server of an earlier version has none
            table.add_row("cluster", routing["breaker"], _routing(routing), "")
        for name in ("wait", "run"):
            p50, p95, p99 = window.get(name) or (None, None, None)
            shortest = window.get("shortest")
            spread = f"p95 {below(p95, shortest)}, p99 {below(p99, shortest)}"
            table.add_row(f"{name} p50", below(p50, shortest), spread, self._chart(f"{name}_p50", chart))
        table.add_row(
            "loop lag", seconds(window.get("loop_lag")), "at most, in a minute", self._chart("loop_lag", chart)
        )
        return table

    def _chart(self, column: str, width: int, top: float | None = None) -> str:
        values = [point[column] for point in list(self._points)[-width:]]
        return sparkline(values, top).rjust(width)


def sparkline(values: Sequence[float | None], top: float | None = None) -> str:
    """Return values as a row of bars; what is not known is blank.

    Args:
        values: From the left.
        top: What a full bar stands for; None: the largest.
    """
    most = top or max((value for value in values if value is not None), default=0.0)
    steps = len(BARS) - 1
    return "".join(
        " " if value is None else BARS[0 if not most or value <= 0 else max(1, min(steps, round(value / most * steps)))]
        for value in values
    )


def _routing(routing: dict[str, Any]) -> str:
    """Say which of two backends does what."""
    here, there = (
        f"{count(of['running'])} run, {count(of['queued'])} wait, {count(of['completed'])} done"
        for of in (routing["local"], routing["remote"])
    )
    return f"{there}; this machine {here}"


def _head(state: dict[str, Any], width: int, trouble: str) -> Text:
    pool, server = state["pool"], state["server"]
    reasons = ", ".join(reason for reason in pool["reasons"] if reason != pool["state"])
    said = state.get("verdict", {})  # a server of an earlier version has none
    style = {"bad": "red", "notable": "yellow"}.get(said.get("level"), "green")
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("lifepool ", "dim").append(f"{plain(pool['name'])}  ", "bold")
    line.append(
        f"{pool['state']}, ready" if pool["ready"] else f"{pool['state']}, not ready",
        style if pool["ready"] else "red",
    )
    line.append(f" ({reasons})" if reasons else "", "red")
    if trouble:
        line.append(f"  {trouble}", "bold red")
    else:
        line.append(f"  process {server['pid']} on {server['host']}  {clock(state['time'])}", "dim")
    line.append("\n").append(plain(said.get("text", "")), f"bold {style}")
    line.truncate(width * 2)
    return line


def _workers(workers: Sequence[dict[str, Any]], room: int) -> Table:
    table = plain_table("\nworker", "\nstate", "*\nruns", ">\nfor", ">\nmemory", ">\ndone", ">\nage")
    shown = list(workers)
    if len(workers) > room:
        shown = sorted(workers, key=lambda each: each["running_s"] or 0.0, reverse=True)[: room - 1]
    for worker in shown:
        task = "" if worker["task"] is None else f"{plain(worker['task_name'] or '(given up)')} #{worker['task']}"
        table.add_row(
            "cluster" if worker["number"] < 0 else f"#{worker['number']}",
            worker["state"],
            Text(task, "cyan"),
            seconds(worker["running_s"], ""),
            memory(worker["memory_bytes"]),
            count(worker["completed"]),
            age(worker["age_s"]),
        )
    if len(shown) < len(workers):
        table.add_row("", "", Text(f"and {len(workers) - len(shown)} more, running for less long", "dim"))
    return table


def _names(names: Iterable[dict[str, Any]]) -> Table:
    table = plain_table("*function", ">tasks", ">failed", ">mean run", ">longest", ">in all")
    for each in names:
        table.add_row(
            Text(plain(each["name"])),
            count(each["count"]),
            Text(count(each["failures"]) if each["failures"] else "", "red"),
            seconds(each["run_mean"]),
            seconds(each["run_max"]),
            age(each["run_sum"]),
        )
    return table


def _failures(failures: Iterable[dict[str, Any]], now: float) -> Table:
    table = plain_table("*failure", ">times", ">last", "*what it said")
    for each in failures:
        first_line = each["message"].partition("\n")[0]
        table.add_row(
            Text(plain(f"{each['error']} in {each['name']}"), "red"),
            count(each["count"]),
            age(now - each["last"]),
            Text(plain(first_line), "dim"),
        )
    return table
