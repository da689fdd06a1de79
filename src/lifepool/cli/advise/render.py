"""Render advice for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lifepool.cli.units import size_text, time_text

if TYPE_CHECKING:
    from rich.console import Console

    from lifepool.cli.advise.advisor import Advice
    from lifepool.cli.advise.judgement import BreakEven, Measurement, Verdict
    from lifepool.cli.summary import Spread

_ADVICE = {
    "offload": "offload it: await pool.run(...)",
    "inline": "call it inline",
    "map": "call it inline; send many at once with pool.map(...)",
}


def render(advice: Advice, console: Console) -> None:
    """Print what was measured and what to do."""
    if advice.error is not None:
        console.print(Text(f"{advice.target}: {advice.error}", style="bold red"))
        console.print(Text(f"fix: {advice.hint}", style="bold"))
        return
    console.print(Text(advice.target, style="bold"))
    if advice.measurements and advice.measurements[0].size is not None:
        console.print(_by_size(advice))
    elif advice.measurements:
        console.print(_figures(advice.measurements[0]), _verdict(advice.verdicts[0]))
    if advice.too_slow is not None:
        console.print(_too_slow(advice.too_slow))
    if advice.break_even is not None:
        console.print(_border(advice.break_even))


def _figures(m: Measurement) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value, remark in (
        ("inline", time_text(m.inline.median), f"{_range(m.inline)}, {m.inline.rounds} calls"),
        ("in the pool", time_text(m.pooled.median), _range(m.pooled)),
        ("event loop", time_text(m.loop), "of its time for each call in the pool"),
        ("pickling", time_text(m.pickling), f"{size_text(m.arguments_bytes)} sent, {size_text(m.result_bytes)} back"),
    ):
        table.add_row(Text(f" {name}"), Text(value, justify="right"), Text(remark, style="dim"))
    return table


def _by_size(advice: Advice) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), collapse_padding=True)
    for header in ("n", "inline", "in the pool", "event loop", "sent", "back", "advice"):
        table.add_column(header, justify="right")
    for m, verdict in zip(advice.measurements, advice.verdicts, strict=True):
        times = (time_text(m.inline.median), time_text(m.pooled.median), time_text(m.loop))
        sizes = (size_text(m.arguments_bytes), size_text(m.result_bytes))
        table.add_row(f"{m.size:,}", *times, *sizes, verdict.recommendation)
    return table


def _range(spread: Spread) -> str:
    return f"{time_text(spread.low)} to {time_text(spread.high)}"


def _verdict(verdict: Verdict) -> Text:
    text = Text(_ADVICE[verdict.recommendation], style="bold")
    if verdict.close:
        text.append(" (it is close: either will do)")
    for reason in verdict.reasons:
        text.append(f"\n- {reason}", style="not bold")
    return text


def _too_slow(where: int | bool) -> Text:
    if where is True:
        text = Text(_ADVICE["offload"], style="bold")
        reason = "a call took longer than the time for it and was ended in its worker; inline was not tried"
        return text.append(f"\n- {reason}\n- give tasks a timeout=; --budget gives measuring more time", "not bold")
    return Text(f"n = {where:,} and more: a call took longer than the time for it; --budget gives more")


def _border(found: BreakEven) -> Text:
    if found.size is not None:
        text = Text(f"it pays from about n = {found.size:,} on", style="bold")
        certainty = "verified" if found.verified else "not verified, figures vary"
        return text.append(f" ({certainty}: not at {found.below:,}, but at {found.above:,})", style="not bold")
    if found.above is not None:
        return Text(f"it pays at every size tried, from n = {found.above:,} on", style="bold")
    return Text(f"it does not pay up to n = {found.below:,}, the largest size tried", style="bold")
