"""How long until a new process runs our code, by way of starting it, from a server that has imported FastAPI?

Run from the root of the checkout: ``python -m experiments.start_methods``. It takes about half a minute.
"""

# ruff: noqa: T201 - an experiment prints its table

from __future__ import annotations

import importlib
import multiprocessing
import statistics
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

ROUNDS = 11
TASK_MODULES = ["examples.domains.counting"]  # what the reference service's workers need


def load(modules: list[str]) -> None:
    """Import what tasks need. Runs in the child."""
    for name in modules:
        importlib.import_module(name)


def start_and_finish(context: BaseContext) -> float:
    """Return seconds for one process to start, import what tasks need, and end."""
    began = perf_counter()
    child = context.Process(target=load, args=(TASK_MODULES,))  # type: ignore[attr-defined]
    child.start()
    child.join()
    return perf_counter() - began


def main() -> None:
    """Measure the three ways in turn and print the median of each."""
    importlib.import_module("fastapi")
    multiprocessing.set_forkserver_preload(TASK_MODULES)
    contexts = {name: multiprocessing.get_context(name) for name in ("spawn", "forkserver", "fork")}
    start_and_finish(contexts["forkserver"])  # the server itself is started once
    samples: dict[str, list[float]] = {name: [] for name in contexts}
    for _ in range(ROUNDS):
        for name, context in contexts.items():
            samples[name].append(start_and_finish(context) * 1e3)
    print(f"ms to start a process, import {TASK_MODULES[0]} and end: median (range) of {ROUNDS} rounds")
    for name, values in samples.items():
        print(f"{statistics.median(values):6.1f}  ({min(values):.1f} to {max(values):.1f})  {name}")


if __name__ == "__main__":
    main()
