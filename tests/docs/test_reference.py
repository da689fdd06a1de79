"""The reference says what the code is: generated parts are fresh, and no public name is left out."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest

import lifepool
from lifepool import Pool, PoolStatistics, TaskHandle, errors
from lifepool._core.states import PoolState, TaskState, WorkerState
from lifepool._inside.resources import Resource
from lifepool._pool.decorated import PoolBatch, PoolTask
from lifepool._pool.life import PoolLife
from lifepool.futures import ProcessPoolExecutor
from lifepool.hooks import Hook, TaskRecord, WorkerExit
from lifepool.instrumentation import grafana, lag, loop, prometheus, slow
from lifepool.integrations import asgi, fastapi, health
from lifepool.progress import MapProgress, rich_progress, tqdm_progress
from lifepool.statistics import ClusterStatistics, HistogramSnapshot, NodeSnapshot, Readiness, WorkerSnapshot
from tests.docs.generate import REFERENCE, REGIONS, SAMPLES, error_classes
from tests.docs.markdown import ROOT, region, replace_region

if TYPE_CHECKING:
    from pathlib import Path

API = (REFERENCE / "api.md").read_text()


@pytest.mark.parametrize(("page", "name"), REGIONS, ids=lambda part: getattr(part, "stem", part))
def test_a_generated_part_is_fresh(page: Path, name: str) -> None:
    fresh = REGIONS[page, name]()
    assert region(page, name) == fresh, f"{page.relative_to(ROOT)} is stale: python -m tests.docs.generate"


def test_a_stale_part_is_noticed_and_can_be_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x:start -->\nold\n<!-- x:end -->\nafter\n")
    assert region(page, "x") == "old\n"
    replace_region(page, "x", "new\n")
    assert page.read_text() == "before\n<!-- x:start -->\nnew\n<!-- x:end -->\nafter\n"
    with pytest.raises(ValueError, match="no region <!-- y:start -->"):
        region(page, "y")


def test_every_error_has_an_example() -> None:
    assert {type(sample) for sample in SAMPLES} == set(error_classes())


def test_the_tree_in_the_docstring_of_errors_is_the_tree() -> None:
    for cls in error_classes():
        status = re.search(rf"\b{cls.__name__}\b.*?(\d{{3}})\n", errors.__doc__ or "")
        if status is not None:  # PoolError and BackendError are never raised themselves and show no status
            assert int(status[1]) == cls.status_hint, cls.__name__


def public(cls: type) -> list[str]:
    return [name for name in vars(cls) if not name.startswith("_")]


def test_every_public_name_is_in_the_api_page() -> None:
    names = [*lifepool.__all__, "PoolDep", *public(Pool), *public(PoolLife), *public(TaskHandle), "submit", "function"]
    names += [*public(Hook), *public(PoolTask), *public(PoolBatch), *public(Resource)]
    names += [tqdm_progress.__name__, rich_progress.__name__, MapProgress.__name__]
    names += [ProcessPoolExecutor.__name__, *public(HistogramSnapshot)]
    names += [
        field.name
        for record in (
            PoolStatistics,
            ClusterStatistics,
            NodeSnapshot,
            Readiness,
            MapProgress,
            WorkerSnapshot,
            TaskRecord,
            WorkerExit,
        )
        for field in dataclasses.fields(record)
    ]
    modules = (asgi, fastapi, health, grafana, lag, loop, prometheus, slow)
    names += [name for module in modules for name, value in vars(module).items() if is_own(module, name, value)]
    missing = [name for name in dict.fromkeys(names) if not re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", API)]
    assert missing == []


def is_own(module: object, name: str, value: object) -> bool:
    return not name.startswith("_") and getattr(value, "__module__", "") == vars(module)["__name__"]


@pytest.mark.parametrize("states", [TaskState, WorkerState, PoolState])
def test_every_state_is_explained(states: type[TaskState | WorkerState | PoolState]) -> None:
    text = (REFERENCE / "states.md").read_text()
    assert [state.name for state in states if f"| `{state.name}` |" not in text] == []
