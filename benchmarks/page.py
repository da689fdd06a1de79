"""The pages that show results: ``python -m benchmarks page`` writes them anew from ``results/bench.json``.

What it writes stands between markers in ``docs/benchmarks.md`` and ``README.md``, so that the words around it can be
edited by hand. A test sees to it that pages and results are in step.
"""

import argparse
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.environment import MOST_BUSY, ROOT
from benchmarks.goals import lines_of, markdown
from benchmarks.report import number, spread_text
from benchmarks.result import RESULTS, Result
from lifepool.cli.bench.contenders import LIFEPOOL, LIMIT, STANDARD

README, PAGE, IMAGES = ROOT / "README.md", ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "images" / "benchmarks"
ASYNCIO = "asyncio"
LINE = 118
NAMES = {STANDARD: "`ProcessPoolExecutor`", "anyio": "`anyio.to_process`", "multiprocessing": "`multiprocessing.Pool`"}
SERVICES = {
    LIFEPOOL: "lifepool",
    STANDARD: "one long-lived `ProcessPoolExecutor`",
    "pool-per-request": "a `ProcessPoolExecutor` in each request",
}


def machine(about: dict[str, Any]) -> str:
    """Return in one line where a run was made."""
    busy = about.get("busy before, percent", 0.0)
    warning = f" Not a quiet machine: its CPUs were {busy:.0f} % busy before the run." if busy > MOST_BUSY else ""
    return (
        f"{about['cpu']}, {about['cpus']} CPUs, {about['system']} {about['kernel']}, {about['python']}; "
        f"{about['date'][:10]}, commit {(about['commit'] or 'unknown')[:12]}.{warning}"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def name_of(contender: str) -> str:
    """Return what a contender is called in a table."""
    return NAMES.get(contender, contender)


def case_rows(result: Result, case: str, loop: str) -> list[list[str]]:
    """Return a case as rows of contender, leading figure and lifepool's advantage."""
    metric = result.leading(case, loop)
    rows = [["", f"{metric['name']}, {metric['unit']}", "lifepool is better by"]]
    for contender in result.contenders(case, loop):
        spread = result.spread(case, loop, contender)
        ratio = None if contender == LIFEPOOL else result.advantage(case, loop, [contender])
        rows.append(
            [name_of(contender), spread_text(spread) if spread else "", spread_text(ratio, "x") if ratio else ""]
        )
    return rows


def no_op_table(result: Result) -> str:
    """Return latency and throughput of no-ops beside each other."""
    rows = [["no-op from asyncio", "round trip, µs", "lifepool is faster by", "64 in flight, tasks/s", "by"]]
    for contender in result.contenders("latency", ASYNCIO):
        if contender == LIMIT:
            continue
        row = [name_of(contender)]
        for case in ("latency", "throughput-64"):
            spread = result.spread(case, ASYNCIO, contender)
            ratio = None if contender == LIFEPOOL else result.advantage(case, ASYNCIO, [contender])
            row += [number(spread.median) if spread else "", spread_text(ratio, "x") if ratio else ""]
        rows.append(row)
    return table(rows)


def service_table(result: Result) -> str:
    """Return the service's latencies."""
    rows = [["the same handler over", "p50, ms", "p99, ms", "lost, %", "`/health` p99, ms"]]
    for contender in result.contenders("service", ASYNCIO):
        spreads = [result.spread("service", ASYNCIO, contender, m) for m in ("p50", "p99", "lost", "health p99")]
        rows.append([SERVICES[contender], *(number(spread.median) if spread else "" for spread in spreads)])
    return table(rows)


def readme_block(result: Result) -> str:
    """Return what the README shows."""
    parts = [
        filled(
            "Medians of interleaved rounds; ratios are made within a round (smallest-largest). "
            + machine(result.environment)
        ),
        image("no-ops", "docs/images/benchmarks"),
        no_op_table(result),
    ]
    if result.has("service", ASYNCIO):
        parts += [
            "The reference service at 100 requests/s with texts of 20 kB, latency from the scheduled instant:",
            service_table(result),
        ]
    return "\n\n".join(parts)


def image(name: str, folder: str) -> str:
    """Return the Markdown of a figure."""
    figure = next(figure for figure in plots.FIGURES if figure.name == name)
    return filled(f"![{figure.alt}]({folder}/{name}.svg)")


def filled(text: str) -> str:
    """Return prose in lines that fit the page."""
    return textwrap.fill(text, LINE, break_long_words=False, break_on_hyphens=False)


def page_block(result: Result) -> str:
    """Return what the page about benchmarks shows: goals, plots, and every case."""
    parts = [filled(machine(result.environment)), "### Goals", markdown(lines_of(result)).rstrip()]
    parts += ["### Plots", *(image(f.name, "images/benchmarks") for f in plots.FIGURES if f.shown(result))]
    return "\n\n".join([*parts, cases_block(result)])


def cases_block(result: Result) -> str:
    """Return a table for each case."""
    parts: list[str] = []
    for (case, loop), plan in result.plans.items():
        parts += [f"### {plan['title']}", _about(plan), table(case_rows(result, case, loop))]
    return "\n\n".join(parts)


def _about(plan: dict[str, Any]) -> str:
    """Return name, event loop and rounds of a case; when it was measured, if that was in an earlier run."""
    made, runs = plan.get("made"), plan.get("runs", [])
    when = f", {made['date'][:10]}" if made else ""
    if len(runs) > 1:
        first, last = (run["date"][:16].replace("T", " ") for run in (runs[0], runs[-1]))
        when = f" in {len(runs)} runs, {first} to {last.removeprefix(first[:11])} UTC"
    when += f", commit {made['commit'][:12]}" if made else ""
    return f"`{plan['case']}`, {plan['loop']}, {plan['rounds']} rounds{when}"


def with_block(text: str, marker: str, block: str) -> str:
    """Return a page with what stands between its markers replaced.

    Raises:
        ValueError: If it has no such markers.
    """
    start, end = f"<!-- {marker}:start -->", f"<!-- {marker}:end -->"
    replaced, count = re.subn(f"{start}.*?{end}", lambda _: f"{start}\n{block}\n{end}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"expected {start} and {end} once, found them {count} times")
    return replaced


def pages(result: Result) -> dict[Path, str]:
    """Return each page as it should be."""
    return {
        README: with_block(README.read_text(encoding="utf-8"), "benchmarks", readme_block(result)),
        PAGE: with_block(PAGE.read_text(encoding="utf-8"), "results", page_block(result)),
    }


def main(arguments: Sequence[str]) -> int:
    """Write pages and plots."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="bench", help="of the result")
    parser.add_argument("--results", type=Path, default=RESULTS, help="its folder")
    options = parser.parse_args(arguments)
    result = Result.load(options.name, options.results)
    for path, text in pages(result).items():
        path.write_text(text, encoding="utf-8")
        print(path)
    for path in plots.draw_all(result, IMAGES):
        print(path)
    return 0
