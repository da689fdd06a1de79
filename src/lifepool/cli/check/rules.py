"""The table of rules: what each looks for, why that is bad, and what to write instead."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        code: Stable, as ``LP001``.
        title: What is found, in a few words.
        level: ``error``: it fails, or hangs under load; ``warning``: it costs latency; ``note``.
        why: What happens.
        fix: What to write instead.
        bad: A module in which it is found once.
        good: The same without it.
    """

    code: str
    title: str
    level: Level
    why: str
    fix: str
    bad: str
    good: str


def _read() -> dict[str, Rule]:
    table = tomllib.loads(resources.files(__package__).joinpath("rules.toml").read_text(encoding="utf-8"))
    return {code: Rule(code=code, **{key: text.strip() for key, text in row.items()}) for code, row in table.items()}


#: By code, in order.
RULES = _read()
