"""A table for the screen."""

from __future__ import annotations

from rich.table import Table


def plain_table(*titles: str) -> Table:
    """Make a table without lines. ``*`` in front of a title: its column takes the room that is left; ``>``: numbers."""
    made = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        made.add_column(
            title.lstrip("*>"),
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if title.startswith("*") else None,
            justify="right" if title.startswith(">") else "left",
        )
    return made
