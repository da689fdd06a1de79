"""Write the figures of ``docs/scale.md``: its tables between their marks, and its plots."""

from pathlib import Path
from typing import Any

from benchmarks.plots import INK, RC
from benchmarks.scale.demands import Demands, read_runs, write_prices
from benchmarks.scale.fit import APART, MISSED, SHARED, SLEEP, errors, fit
from benchmarks.scale.formulas import Limits, dollars_per_million, latency, limits
from benchmarks.scale.simulation import Outcome, Setup, simulate

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, IMAGES = DOCS / "scale.md", DOCS / "images" / "scale"
NODES = (1, 3, 10, 30, 100, 300, 1000)
TASKS_S = (0.001, 0.01, 0.1, 1.0)
WEB = 8
COLOURS = ("#2f81f7", "#d29922", "#57ab5a", "#a371f7")
LOADED = Setup(nodes=10, task_s=0.1)
LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
CALLS = 15_000


def write() -> None:
    """Fit, simulate, and write everything."""
    runs = read_runs()
    demands = fit(runs)
    write_prices(demands)
    compared = errors(runs, demands)
    full = {(task_s, nodes): _full(demands, task_s, nodes) for task_s in TASKS_S for nodes in NODES}
    text = PAGE.read_text(encoding="utf-8")
    for name, made in (
        ("demands", demands_table(demands)),
        ("fit", fit_table(compared)),
        ("limits", limits_table(demands, full)),
        ("payloads", payload_table(demands)),
    ):
        text = _put(text, name, made)
    PAGE.write_text(text, encoding="utf-8")
    _draw(demands, compared, full)


def _full(demands: Demands, task_s: float, nodes: int) -> tuple[Setup, Limits, Outcome]:
    """Return what a cluster does that has as much to do as it can."""
    setup = Setup(nodes=nodes, web=WEB, task_s=task_s)
    busy = Setup(nodes=nodes, web=WEB, task_s=task_s, window=max(4, setup.most_under_way * 5 // 4))
    return setup, limits(demands, setup), simulate(demands, busy, calls=CALLS)


# -- tables -------------------------------------------------------------------------------------------------------


def demands_table(demands: Demands) -> str:
    """Say what a call costs."""
    rows: list[tuple[str, ...]] = [
        (name, *(f"{seconds * 1e3:.3f}" for seconds in (demand.turn_s, demand.message_s, demand.call_s)),
         f"{demand.mib_s * 1e3:.1f}")
        for name, demand in (("web process", demands.web), ("Redis", demands.redis), ("agent", demands.agent))
    ]  # fmt: skip
    rows.append(("worker", "-", "-", f"{demands.worker_s * 1e3:.3f}", f"{demands.worker_mib_s * 1e3:.1f}"))
    table = _table(("CPU of", "ms a turn", "ms a message", "ms a call", "ms a MiB, both ways"), rows)
    rest = (
        f"Besides: {demands.wait_s * 1e3:.1f} ms on the way without CPU; a message's place in its node stays empty for "
        f"{demands.turnover_s * 1e3:.1f} ms before the next; an announcement of a node costs each web process "
        f"{demands.beat_s * 1e6:.0f} µs, twice a second; an agent takes {demands.idle_s:.1%} of a CPU when it is idle. "
        f"In the measured runs, each further agent on the two CPUs makes all that is in the table {demands.crowd:.1%} "
        "dearer."
    )
    return f"{table}\n\n{_wrapped(rest)}"


def fit_table(compared: list[dict[str, Any]]) -> str:
    """Set the model beside what was measured; what it misses has a star."""
    rows: list[tuple[str, ...]] = []
    for each in compared:
        star = " *" if (each["case"], each["nodes"]) in MISSED else ""
        rate, model_rate, p50_s, model_p50_s = (each[name] for name in ("rate", "model_rate", "p50", "model_p50"))
        rates = (f"{rate:.0f}", f"{model_rate:.0f}", f"{model_rate / rate - 1:+.0%}")
        medians = (f"{p50_s * 1e3:.1f}", f"{model_p50_s * 1e3:.1f}", f"{model_p50_s / p50_s - 1:+.0%}")
        shared = (f"{each['shared']:.1f}", f"{each['model_shared']:.1f}")
        rows.append((f"{each['case']}{star}", str(each["nodes"]), *rates, *medians, *shared))
    heads = ("calls", "nodes", "measured /s", "model /s", "error", "p50 ms", "model ms", "error", "a message", "model")
    return _table(heads, rows)


def limits_table(demands: Demands, full: dict[tuple[float, int], tuple[Setup, Limits, Outcome]]) -> str:
    """Say how far a cluster carries, and what is full first."""
    rows = []
    for (task_s, nodes), (setup, bound, outcome) in full.items():
        if nodes >= 10:
            dollars = f"{dollars_per_million(setup, outcome.rate):.2f}"
            places = (f"{outcome.busy[place]:.0%}" for place in ("web", "redis", "agent"))
            shared = f"{max(1.0, 1 / outcome.messages):.1f}"
            rows.append(
                (_task(task_s), f"{nodes:,}", f"{outcome.rate:,.0f}", bound.narrowest, shared, *places, dollars)
            )
    heads = ("task", "nodes", "calls /s", "full first", "calls a message", "web", "Redis", "agent", "$ a million")
    return _table(heads, rows)


def payload_table(demands: Demands) -> str:
    """Say how many calls each place can do: of those that share messages, and of those with a payload."""
    rows = []
    alone = Setup(nodes=1, task_s=0.0, shares=False)
    for name, setup, mib in (
        ("none, short calls in full messages", Setup(nodes=1, task_s=0.0), 0.0),
        ("none, ten calls in a message", Setup(nodes=1, task_s=0.002), 0.0),
        ("none, each in its own message", alone, 0.0),
        ("64 KiB", alone, 1 / 16),
        ("1 MiB", alone, 1.0),
    ):
        bound = limits(demands.with_payload(mib), setup).by
        rows.append((name, *(f"{bound[place]:,.0f}" for place in ("web", "Redis", "agents"))))
    return _table(("payload, both ways", "one web process /s", "Redis /s", "one agent /s"), rows)


def _task(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.0f} s"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _wrapped(text: str, width: int = 120) -> str:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) >= width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def _put(text: str, name: str, made: str) -> str:
    head, mark, rest = text.partition(f"<!-- {name}:start -->\n")
    _, end, tail = rest.partition(f"<!-- {name}:end -->")
    if not mark or not end:
        raise ValueError(f"{PAGE} has no marks for {name}")
    return f"{head}{mark}{made}\n{end}{tail}"


# -- plots --------------------------------------------------------------------------------------------------------


def _draw(
    demands: Demands, compared: list[dict[str, Any]], full: dict[tuple[float, int], tuple[Setup, Limits, Outcome]]
) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    IMAGES.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.2))
        _draw_fit(axes[0], compared)
        _draw_rates(axes[1], full)
        _draw_latencies(axes[2], demands)
        figure.tight_layout()
        figure.savefig(IMAGES / "scale.svg", transparent=True, metadata={"Date": None})
        plt.close(figure)


def _draw_fit(axis: Any, compared: list[dict[str, Any]]) -> None:
    labels = {SHARED: "no-op", APART: "no-op apart", SLEEP: "sleeps 50 ms"}
    for colour, (case, label) in zip(COLOURS, labels.items(), strict=False):
        runs = [each for each in compared if each["case"] == case]
        nodes = [each["nodes"] for each in runs]
        axis.plot(nodes, [each["rate"] for each in runs], "o", color=colour, label=label)
        axis.plot(nodes, [each["model_rate"] for each in runs], "-", color=colour)
    axis.set(title="one machine of two CPUs", xlabel="nodes", ylabel="calls/s", xscale="log", xticks=[1, 2, 4, 8])
    axis.minorticks_off()
    axis.set_xticklabels(["1", "2", "4", "8"])
    axis.set_ylim(0, 1.4 * max(each["model_rate"] for each in compared))  # with room for the legend
    axis.legend(frameon=False, fontsize=7, loc="upper left")


def _draw_rates(axis: Any, full: dict[tuple[float, int], tuple[Setup, Limits, Outcome]]) -> None:
    for colour, task_s in zip(COLOURS, TASKS_S, strict=True):
        axis.plot(NODES, [full[task_s, nodes][1].rate for nodes in NODES], "-", color=colour, lw=1.2)
        rates = [full[task_s, nodes][2].rate for nodes in NODES]
        axis.plot(NODES, rates, "o", color=colour, ms=4, label=f"tasks of {_task(task_s)}")
    axis.set(title=f"{WEB} web processes, 4 slots a node", xlabel="nodes", ylabel="calls/s", xscale="log", yscale="log")
    axis.legend(frameon=False, fontsize=7)


def _draw_latencies(axis: Any, demands: Demands) -> None:
    most = limits(demands, LOADED).rate
    setups = [
        Setup(nodes=LOADED.nodes, web=LOADED.web, task_s=LOADED.task_s, rate=load * most, in_flight=1 << 20, ahead=9.0)
        for load in LOADS
    ]
    seen = [simulate(demands, setup, calls=CALLS) for setup in setups]
    for colour, q, label in ((COLOURS[0], 0.5, "p50"), (COLOURS[1], 0.99, "p99")):
        axis.plot(LOADS, [each.quantile(q) * 1e3 for each in seen], "o-", color=colour, ms=4, label=label)
    axis.plot(LOADS, [latency(demands, setup) * 1e3 for setup in setups], "--", color=INK, label="formula, mean")
    axis.set(
        title=f"{LOADED.nodes} nodes, tasks of {_task(LOADED.task_s)}",
        xlabel=f"load (1 = {most:,.0f} calls/s)",
        ylabel="ms",
    )
    axis.set_ylim(0, 1.1 * seen[-1].quantile(0.99) * 1e3)
    axis.legend(frameon=False, fontsize=7)
