"""Plots of results, as SVG that can be read on a light and on a dark page: text is drawn as paths, nothing is filled.

A figure is drawn if the results hold at least two of its points; what was not measured is not shown.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases.calls import SIZES
from benchmarks.cases.lengths import LENGTHS
from benchmarks.report import number
from benchmarks.result import Result
from lifepool.cli.bench.contenders import LIFEPOOL, LIMIT, STANDARD

ASYNCIO = "asyncio"
INK = "#7d8590"  # readable on white and on GitHub's dark page
COLOURS = {
    LIFEPOOL: "#2f81f7",
    STANDARD: "#d29922",
    LIMIT: "#57ab5a",
    "loky": "#a371f7",
    "pebble": "#e5534b",
    "deadpool": "#1b9e9e",
    "anyio": "#db61a2",
}
BAR = "#9198a1"
LINE_WIDTH, OUR_LINE_WIDTH = 1.3, 2.4
RC: Any = {
    "svg.fonttype": "path",
    "svg.hashsalt": "lifepool",  # the same figures give the same file
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": 10,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _thousands() -> Any:
    """Return what writes 40k and 2M beside an axis."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


@dataclass(frozen=True)
class Bars:
    """A panel with one bar for each contender of a case.

    Attributes:
        metric: other than the leading one.
        log: for values that differ by orders of magnitude.
    """

    case: str
    title: str
    metric: str | None = None
    log: bool = False

    def points(self, result: Result) -> int:
        """Return how many bars there would be."""
        return len(result.contenders(self.case, ASYNCIO))

    def draw(self, axes: Any, result: Result) -> None:
        """Draw it: our own bar coloured, the best on top."""
        names = result.contenders(self.case, ASYNCIO)
        metric = self._metric(result)
        spreads = {name: result.spread(self.case, ASYNCIO, name, metric["name"]) for name in names}
        known = {name: spread for name, spread in spreads.items() if spread is not None}
        order = sorted(known, key=lambda name: known[name].median, reverse=metric["better"] == "lower")
        medians = [known[name].median for name in order]
        below = [known[name].median - known[name].low for name in order]
        above = [known[name].high - known[name].median for name in order]
        colours = [COLOURS[LIFEPOOL] if name == LIFEPOOL else BAR for name in order]
        axes.barh(order, medians, xerr=[below, above], color=colours, ecolor=INK, height=0.65)
        if self.log:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_formatter(_thousands())
        rim = max(median + up for median, up in zip(medians, above, strict=True))
        for row, (median, up) in enumerate(zip(medians, above, strict=True)):
            axes.annotate(number(median), (median + up, row), (4, 0), textcoords="offset points", va="center")
        axes.set_xlim(right=rim * (8 if self.log else 1.22))
        axes.set_title(f"{self.title}, {metric['unit']} ({metric['better']} is better)", loc="left")

    def _metric(self, result: Result) -> dict[str, str]:
        metrics = result.plans[self.case, ASYNCIO]["metrics"]
        return next((m for m in metrics if m["name"] == self.metric), metrics[0])


@dataclass(frozen=True)
class Lines:
    """A panel with one line for each contender over several cases.

    Attributes:
        cases: name of the case by position on the axis.
        ticks: what stands below a position, where that is not the number itself.
    """

    cases: Mapping[float, str]
    title: str
    x: str
    y: str
    metric: str | None = None
    log_y: bool = False
    ticks: tuple[str, ...] = ()

    def points(self, result: Result) -> int:
        """Return how many ticks there would be."""
        return sum(result.has(case, ASYNCIO) for case in self.cases.values())

    def draw(self, axes: Any, result: Result) -> None:
        """Draw it: our own line thicker."""
        measured = {x: case for x, case in self.cases.items() if result.has(case, ASYNCIO)}
        names = dict.fromkeys(name for case in measured.values() for name in result.contenders(case, ASYNCIO))
        for name in names:
            spreads = {x: result.spread(case, ASYNCIO, name, self.metric) for x, case in measured.items()}
            known = {x: spread.median for x, spread in spreads.items() if spread is not None}
            width = OUR_LINE_WIDTH if name == LIFEPOOL else LINE_WIDTH
            style = "--" if name == LIMIT else "-"
            axes.plot(list(known), list(known.values()), style, marker="o", ms=3, lw=width, label=name,
                      color=COLOURS.get(name, BAR))  # fmt: skip
        axes.set_xscale("log")
        labels = self.ticks or tuple(f"{x:g}" for x in self.cases)
        shown = [(x, label) for x, label in zip(self.cases, labels, strict=True) if x in measured]
        axes.set_xticks([x for x, _ in shown], [label for _, label in shown])
        axes.minorticks_off()
        if self.log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(_thousands())
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        axes.set_title(self.title, loc="left")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


@dataclass(frozen=True)
class Figure:
    """One SVG file: panels beside each other, and a description for readers who do not see it."""

    name: str
    alt: str
    panels: tuple[Bars | Lines, ...]

    def shown(self, result: Result) -> list[Bars | Lines]:
        """Return the panels for which there is something to show."""
        return [panel for panel in self.panels if panel.points(result) >= 2]


IN_FLIGHT: Mapping[float, str] = {count: f"throughput-{count}" for count in (1, 8, 64, 512)}
ECHOES = {float(size): f"echo-{name}" for name, size in SIZES.items()}
EFFICIENCIES = {seconds: f"efficiency-{name}" for name, seconds in LENGTHS.items()}
QUEUES: Mapping[float, str] = {10**power: f"queue-1e{power}" for power in range(1, 7)}
WORKERS: Mapping[float, str] = {2**power: f"workers-{2**power}" for power in range(7)}

FIGURES = (
    Figure(
        "no-ops",
        "Bars: the round trip of a no-op and no-ops per second with 64 in flight, lifepool and other pools",
        (Bars("latency", "no-op round trip"), Bars("throughput-64", "no-ops, 64 in flight")),
    ),
    Figure(
        "in-flight",
        "Lines: no-ops per second over how many are in flight",
        (Lines(IN_FLIGHT, "no-ops over tasks in flight", "in flight", "tasks/s"),),
    ),
    Figure(
        "payloads",
        "Lines: round trip of bytes as argument and result, over their size",
        (Lines(ECHOES, "bytes as argument and result", "size", "p50, ms", log_y=True, ticks=tuple(SIZES)),),
    ),
    Figure(
        "map-and-restart",
        "Bars: items per second in a map of a million; milliseconds until a killed worker is replaced",
        (Bars("map-1e6", "map of a million items"), Bars("restart", "all workers again after a kill", log=True)),
    ),
    Figure(
        "efficiency",
        "Lines: share of the CPUs that tasks get, over their length",
        (Lines(EFFICIENCIES, "share of the CPUs that tasks get", "CPU time of a task", "%", ticks=tuple(LENGTHS)),),
    ),
    Figure(
        "queue",
        "Lines: time and memory of a waiting task, over how many wait",
        (
            Lines(QUEUES, "time of a task", "tasks submitted at once", "µs", metric="task"),
            Lines(QUEUES, "memory of a waiting task", "tasks submitted at once", "bytes", metric="memory"),
        ),
    ),
    Figure(
        "workers",
        "Lines: no-ops per second over the number of workers",
        (Lines(WORKERS, "no-ops over workers, 128 in flight", "workers", "tasks/s"),),
    ),
    Figure(
        "service",
        "Bars: 50th and 99th percentile of a service's latency over lifepool, one standard pool and a pool per request",
        (Bars("service", "service, p50", "p50", log=True), Bars("service", "service, p99", log=True)),
    ),
)


def fingerprint(result: Result) -> str:
    """Return what changes when a result does; it stands in every plot made of it."""
    data = json.dumps([result.environment["date"], sorted(result.plans)], sort_keys=True)
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def draw_all(result: Result, folder: Path) -> list[Path]:
    """Write every figure for which there is something to show, and remove those for which there is not."""
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [_draw(figure, result, folder) for figure in FIGURES if figure.shown(result)]
    for old in set(folder.glob("*.svg")) - set(drawn):
        old.unlink()
    return drawn


def _draw(figure: Figure, result: Result, folder: Path) -> Path:
    import matplotlib.pyplot as plt

    panels = figure.shown(result)
    with plt.rc_context(RC):
        canvas, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels) + 0.4, 2.7), squeeze=False)
        for panel, axis in zip(panels, axes[0], strict=True):
            panel.draw(axis, result)
            axis.patch.set_alpha(0)
        canvas.tight_layout()
        target = folder / f"{figure.name}.svg"
        about = {"Date": None, "Description": f"result {fingerprint(result)}"}
        canvas.savefig(target, transparent=True, metadata=about)
        plt.close(canvas)
    return target
