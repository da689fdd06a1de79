"""The table of where a task's microseconds go."""

from __future__ import annotations

from typing import Any

from benchmarks.parent.stages import POLL, STAGES

LOOP = "event loop: callbacks, resuming the caller"
POLL_CPU = f"{POLL} (total less all above)"
LOOP_BY_DIFFERENCE = "event loop: waiting, callbacks, resuming the caller (total less all above)"
TOTAL = "**total CPU, measured without the stopwatch**"


def markdown_page(result: dict[str, Any], before: dict[str, Any] | None = None) -> str:
    """Return the page of a result, with an earlier one beside it if there is one."""
    about = result["environment"]
    lines = [
        "# Where a task's time goes in the server process",
        "",
        f"{about['date']}, {about['cpu']}, {about['cpus']} CPUs, {about['system']} {about['kernel']}, "
        f"{about['python']}, commit {about['commit']}"
        + (f"; before: commit {before['environment']['commit']}" if before else "")
        + f". Load average {about['load average'][0]:.1f}.",
        "",
        "Microseconds of a no-op task and, in brackets, calls a task. Each stage is without those that it calls.",
        "With 1 in flight the stopwatch is some 2 µs uncertain for each: a stage below zero is less than that.",
        "",
    ]
    earlier = {_key(run): run for run in before["runs"]} if before else {}
    for loop in dict.fromkeys(run["loop"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["loop"] == loop]
        lines += [*_table(loop, runs, earlier), "", *_system_calls(runs), ""]
    missing = sorted({name for run in result["runs"] for name in run["missing"]})
    if missing:
        lines += [f"Not there, and so part of what calls them: {', '.join(f'`{name}`' for name in missing)}.", ""]
    return "\n".join(lines)


def _key(run: dict[str, Any]) -> tuple[str, int]:
    return run["loop"], run["in_flight"]


def _table(loop: str, runs: list[dict[str, Any]], earlier: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    columns: list[tuple[str, dict[str, Any]]] = []
    for run in runs:
        if _key(run) in earlier:
            columns.append((f"{run['in_flight']} in flight, before", earlier[_key(run)]))
        columns.append((f"{run['in_flight']} in flight" + (", after" if earlier else ""), run))
    header = [f"stage, {loop}", *(title for title, _ in columns)]
    lines = [f"| {' | '.join(header)} |", "|---|" + "---:|" * len(columns)]
    for label, cells in _rows([run for _, run in columns]):
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def _rows(runs: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    rows = [(name, [_stage(run, name) for run in runs]) for name in STAGES if name != POLL]
    if all(run["loop_us"] is not None for run in runs):
        rows.append((LOOP, [f"{run['loop_us']:.2f}" for run in runs]))
        left = [run["total_us"] - run["stages_us"] - run["loop_us"] for run in runs]
        rows.append((POLL_CPU, [f"{us:.2f}" for us in left]))
    else:
        rows.append((LOOP_BY_DIFFERENCE, [f"{run['total_us'] - run['stages_us']:.2f}" for run in runs]))
    rows.append((TOTAL, [f"**{run['total_us']:.1f}** ({_range(run)})" for run in runs]))
    rows.append(("time from task to task, idle time included", [f"{run['wall_us']:.1f}" for run in runs]))
    return rows


def _range(run: dict[str, Any]) -> str:
    low, high = run["total_range"]
    return f"{low:.1f}-{high:.1f}"


def _stage(run: dict[str, Any], name: str) -> str:
    stage = run["stages"].get(name)
    if stage is None or stage["calls"] < 0.005:
        return ""
    return f"{stage['us']:.2f} ({stage['calls']:.2f})"


def _system_calls(runs: list[dict[str, Any]]) -> list[str]:
    return [
        f"System calls a task, {run['in_flight']} in flight: "
        + ", ".join(f"{name} {count:.2f}" for name, count in run["system calls"].items())
        + "."
        for run in runs
        if run["system calls"]
    ]
