"""The nodes of a cluster on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from lifepool.cli.top.quantities import age, count, plain, seconds
from lifepool.cli.top.tables import plain_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table


def numbers_of_cluster(cluster: Mapping[str, Any]) -> Text:
    """Return two lines: who is there, and what was wrong."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"\ncluster {plain(cluster['address'])}  ", "dim")
    line.append(f"{count(cluster['node_count'])} nodes, {count(cluster['slots'])} slots", "bold")
    if cluster["unavailable"] is not None:
        line.append(f"  {plain(cluster['unavailable'])}", "bold red")
    p50, _, p99 = cluster["overhead"]
    line.append(
        f"\n{count(cluster['unsent'])} unsent, {count(cluster['queued'])} queued, {count(cluster['taken'])} taken"
    )
    line.append(f"  overhead p50 {seconds(p50)}, p99 {seconds(p99)}")
    trouble = {
        "redelivered": cluster["redelivered"],
        "refused": cluster["refused"] + cluster["refused_by_nodes"],
        "log records dropped": cluster["log_records_dropped"],
    }
    line.append("".join(f"  {count(number)} {what}" for what, number in trouble.items() if number), "red")
    return line


def nodes_table(nodes: Sequence[Mapping[str, Any]], room: int) -> Table:
    """Return a line for each node, the busiest first if there is no room for all."""
    drawn = plain_table("*node", "state", ">runs", ">slots", "workers", "version", ">clock", ">heard")
    shown = list(nodes)
    if len(nodes) > room:
        shown = sorted(nodes, key=lambda each: each["running"], reverse=True)[: max(0, room - 1)]
    for node in shown:
        drawn.add_row(
            Text(plain(node["name"])),
            node["state"],
            count(node["running"]),
            count(node["slots"]),
            ", ".join(f"{number} {state}" for state, number in node["workers"].items() if number),
            plain(node["lifepool"]),
            _offset(node["clock_offset_s"]),
            age(node["heard_s"]),
        )
    if len(shown) < len(nodes):
        drawn.add_row(Text(f"and {len(nodes) - len(shown)} more", "dim"))
    return drawn


def _offset(value: float | None) -> str:
    if value is None or abs(value) < 0.01:
        return ""
    return f"{'-' if value < 0 else '+'}{seconds(abs(value))}"
