"""The parts of the reference that are made from the code. ``python -m tests.docs.generate`` writes them anew."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lifepool import errors
from lifepool._core.states import POOL_TRANSITIONS, TASK_TRANSITIONS, WORKER_TRANSITIONS
from lifepool.backends.base import Capabilities
from lifepool.backends.executor import ExecutorBackend
from lifepool.backends.inline import InlineBackend
from lifepool.backends.local.backend import LocalBackend
from lifepool.backends.remote.loopback import LoopbackCluster
from lifepool.cli.check.rules import RULES
from lifepool.config import describe_settings
from lifepool.hooks import Hook, TaskRecord, WorkerExit
from lifepool.instrumentation import metrics
from lifepool.instrumentation.jobs import JOB_METRICS, JOB_STATES
from lifepool.instrumentation.routing import BREAKER_STATES, ROUTING_METRICS
from lifepool.jobs import errors as job_errors
from tests.docs.markdown import ROOT, replace_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Set
    from enum import Enum
    from pathlib import Path

REFERENCE = ROOT / "docs" / "reference"
_MIB = 1 << 20


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


# -- configuration ------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Every setting of a pool."""
    rows = [
        [f"`{each.name}`", f"`{each.variable}`", _default(each.default), each.expected, each.meaning]
        for each in describe_settings()
    ]
    return table(["argument", "variable", "default", "value", "meaning"], rows)


def _default(value: object) -> str:
    if isinstance(value, int) and value >= _MIB and not value % _MIB:
        return f"`{value // _MIB} MiB`"
    return f"`{value!r}`"


# -- errors -------------------------------------------------------------------------------------------------------

_JOB_ID = "019345b0-7a1c-7c52-9d0e-3f6a2b8c4d11"

#: One of each, as a user meets it; TaskTimeout and WorkerLost have two hints each.
SAMPLES: tuple[errors.PoolError, ...] = (
    errors.PoolError("(base class)"),
    errors.PoolClosed("the pool is draining", hint="the server is shutting down: ask another one"),
    errors.QueueFull("the queue is full (1000 tasks wait)", retry_after=0.5),
    errors.TaskError("(base class)"),
    errors.TaskTimeout(2.0, started=True),
    errors.TaskTimeout(2.0, started=False),
    errors.ClientDisconnected(),
    errors.TaskNotPicklable("arguments", "args[0].session._lock", "TypeError: cannot pickle '_thread.lock' object"),
    errors.PayloadTooLarge("arguments", 300 * _MIB, 256 * _MIB),
    errors.WorkerLost(signal=11),
    errors.WorkerLost(signal=9, oom_suspected=True),
    errors.WorkerStartError("Traceback ...", hint="the initializer failed; see the traceback"),
    errors.BackendError("(base class)"),
    errors.BackendUnavailable(
        "the task did not start, for the executor refused it: it was shut down",
        hint="close the pool before you shut its executor down, or make a new executor and a new pool",
    ),
    errors.BackendUnsupported(
        "backend='unix' is not part of this version", capability="unix", hint="use backend='local'"
    ),
    errors.InternalError("task 7 was submitted twice"),
    job_errors.JobError("(base class)"),
    job_errors.JobNotFound(_JOB_ID),
    job_errors.IdempotencyConflict("order 7", _JOB_ID),
    job_errors.WrongJobState(_JOB_ID, "succeeded", "only what has failed, was lost or cancelled can be retried"),
    job_errors.JobNotStorable("args[0]['when']", "JSON can't carry a myapp.Moment"),
    job_errors.JobNotCallable("myapp.work:build_report can't be imported: AttributeError: ..."),
    job_errors.JobsNotStarted(),
    job_errors.StoreError("(base class)"),
    job_errors.StoreUnavailable(
        "the job store /srv/jobs.db can't be used now: database is locked",
        hint="another process keeps it locked, or it is not writable; see: fuser /srv/jobs.db",
    ),
    job_errors.StoreFull("there is no space left for the job store /srv/jobs.db"),
    job_errors.StoreCorrupt(
        "the job store /srv/jobs.db is damaged, or no database: file is not a database",
        hint="restore it from a backup, or try: sqlite3 /srv/jobs.db .recover",
    ),
)


def error_classes(root: type[errors.PoolError] = errors.PoolError) -> list[type[errors.PoolError]]:
    """The tree in order of definition, parents first."""
    children = [
        child
        for child in root.__subclasses__()
        if child.__module__.startswith("lifepool.") and child.__module__ != "lifepool.futures.errors"
    ]
    return [root, *(each for child in children for each in error_classes(child))]


def error_tree() -> str:
    """The tree, with HTTP status, other base classes and fields."""
    rows = []
    for cls in error_classes():
        depth = len([base for base in cls.__mro__ if issubclass(base, errors.PoolError)]) - 1
        others = [base.__name__ for base in cls.__bases__ if not issubclass(base, errors.PoolError)]
        also = ", ".join(f"`{name}`" for name in others if name != "Exception")
        own = ", ".join(f"`.{name}`" for name in _fields(cls))
        rows.append(["&emsp;" * depth + f"`{cls.__name__}`", also, str(cls.status_hint), own, _meaning(cls)])
    return table(["error", "also a", "HTTP", "fields", "meaning"], rows)


def error_messages() -> str:
    """What each says, and its hint, by example."""
    rows = [
        [f"`{type(sample).__name__}`", str(sample.args[0]), sample.hint]
        for sample in SAMPLES
        if sample.args[0] != "(base class)"
    ]
    return table(["error", "message, for example", "hint"], rows)


def _meaning(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


def _fields(cls: type) -> list[str]:
    lines = (cls.__doc__ or "").partition("Attributes:\n")[2].splitlines()
    return [line.split(":")[0].strip() for line in lines if line.startswith(" " * 8) and line[8] != " "]


# -- states -------------------------------------------------------------------------------------------------------


def diagram(table_of: Mapping[Any, Set[Any]]) -> str:
    """A transition table as a mermaid state diagram; states in the order of their definition."""
    states: type[Enum] = type(next(iter(table_of)))
    order = list(states)
    lines = [f"    [*] --> {order[0].name}"]
    for old in order:
        lines += [f"    {old.name} --> {new.name}" for new in order if new in table_of[old]]
        if not table_of[old]:
            lines.append(f"    {old.name} --> [*]")
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n"


# -- capabilities -------------------------------------------------------------------------------------------------

_SLOTS = 1000  # recognised in the table, and so named instead


def capabilities() -> str:
    """What each backend can do."""
    backends = {
        "local": LocalBackend.capabilities,
        "executor": ExecutorBackend(_no_executor, slots=_SLOTS).capabilities,
        "inline": InlineBackend.capabilities,
        "a cluster's URL": LoopbackCluster().backend(in_flight=_SLOTS).capabilities,
    }
    meanings = _attribute_docs(Capabilities)
    rows = [
        [f"`{field.name}`", meanings[field.name], *(_shown(getattr(can, field.name)) for can in backends.values())]
        for field in fields(Capabilities)
    ]
    return table(["capability", "meaning", *(name if " " in name else f"`{name}`" for name in backends)], rows)


def _no_executor() -> Any:
    raise AssertionError("the table asks for capabilities alone")


def _shown(value: bool | int | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "as many as asked for"
    return "max_workers, or in_flight" if value == _SLOTS else str(value)


def _attribute_docs(cls: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].splitlines():
        if line.startswith(" " * 8):  # the line before goes on
            found[list(found)[-1]] += " " + line.strip()
        else:
            name, _, text = line.strip().partition(": ")
            found[name] = text
    return {name: text.replace("``", "`") for name, text in found.items()}


# -- metrics ------------------------------------------------------------------------------------------------------

_LABEL_VALUES = {
    "pool": "the pool's `name`",
    "task": f"the function's qualified name, or `{metrics.OTHER}`",
    "outcome": ", ".join(f"`{value}`" for value in metrics.OUTCOMES),
    "state": f"of workers {', '.join(f'`{value}`' for value in metrics.WORKER_STATES)}; "
    f"of nodes {', '.join(f'`{value}`' for value in metrics.NODE_STATES)}; "
    f"of jobs {', '.join(f'`{value}`' for value in JOB_STATES)}; "
    f"of the circuit breaker {', '.join(f'`{value}`' for value in BREAKER_STATES)}",
    "backend": "`local`: this machine; `remote`: the cluster",
    "place": "`unsent`: not yet out of this process; `queued`: sent, and no node has taken it; `taken`: with a node",
    "side": "`client`: this process refused a message of a node; `node`: nodes refused one of any client",
    "cause": ", ".join(f"`{value}`" for value in metrics.CAUSES),
    "reason": ", ".join(f"`{value}`" for value in metrics.RESTART_REASONS),
    "direction": "`sent` to workers, `received` from them",
    "decision": ", ".join(f"`{each}`" for each in metrics.DECISIONS),
    "path": "`shared_memory` for big payloads, `channel` for all others",
}


def metrics_table() -> str:
    """Every metric."""
    rows = [
        [f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.help, _across(each)]
        for each in (*metrics.METRICS, *metrics.CLUSTER_METRICS, *ROUTING_METRICS, *JOB_METRICS)
    ]
    return table(["metric", "kind", "labels", "meaning", "over processes"], rows)


def _across(metric: metrics.Metric) -> str:
    if metric in JOB_METRICS:
        return "the store's"
    return "the highest" if metric.highest else "the sum"


def metric_labels() -> str:
    """Every label and its values."""
    known = (*metrics.METRICS, *metrics.CLUSTER_METRICS, *ROUTING_METRICS)
    found = dict.fromkeys(label for each in known for label in each.labels)
    return table(["label", "values"], ([f"`{label}`", _LABEL_VALUES[label]] for label in found))


def hook_events() -> str:
    """Every method of a hook."""
    rows = [
        [f"`{name}({', '.join(list(inspect.signature(method).parameters)[1:])})`", _first_paragraph(method)]
        for name, method in vars(Hook).items()
        if inspect.isfunction(method)
    ]
    return table(["method", "when"], rows)


def record_fields(cls: type) -> str:
    """Every field of a record that hooks get."""
    meanings = _attribute_docs(cls)
    return table(["field", "meaning"], ([f"`{name}`", meaning] for name, meaning in meanings.items()))


def _first_paragraph(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


# -- imports ------------------------------------------------------------------------------------------------------


def layers() -> str:
    """Who may import whom, from the top; what does not exist yet, in parentheses there, is left out."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lines = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [[name for name in line.split(" | ") if not name.startswith("(")] for line in lines]
    return "```text\n" + "".join(" | ".join(line).replace("lifepool.", "") + "\n" for line in names if line) + "```\n"


# -- lifepool check -----------------------------------------------------------------------------------------------


def rules() -> str:
    """What `lifepool check` looks for."""
    rows = [[f"`{rule.code}`", rule.level, rule.title, rule.why, rule.fix] for rule in RULES.values()]
    return table(["rule", "level", "finds", "why", "fix"], rows)


# -- who survives what -------------------------------------------------------------------------------------------


def survivors(name: str) -> Callable[[], str]:
    """What was measured of who survives what, from a file of results."""

    def read() -> str:
        result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
        cells: dict[str, dict[str, dict[str, Any]]] = result["cells"]
        names = list(next(iter(cells.values())))
        rows = [
            [result["experiments"][row], *("yes" if cells[row][each]["survived"] else "no" for each in names)]
            for row in cells
        ]
        survived = [str(sum(cells[row][each]["survived"] for row in cells)) for each in names]
        about = result["environment"]
        when = f"{about['date'][:10]}, {about['python']}, {about['system']} {about['kernel']}.\n\n"
        return when + table(["", *names], [*rows, [f"of {len(cells)}", *survived]])

    return read


# -- platforms ----------------------------------------------------------------------------------------------------

WORKFLOWS = ROOT / ".github" / "workflows"
_SYSTEMS = {"ubuntu": "Linux", "macos": "macOS", "windows": "Windows"}


def platforms() -> str:
    """What the workflows test on which Python and system."""
    cells: dict[str, dict[str, str]] = {}
    for workflow, job, tests in (("ci.yml", "test", "all tests"), ("free-threaded.yml", "core", "core tests")):
        text = _job((WORKFLOWS / workflow).read_text(), job)
        allowed = re.search(r"continue-on-error: (.*)", text)
        for python in _listed(text, "python"):
            may_fail = allowed is not None and (allowed[1] == "true" or f"'{python}'" in allowed[1])
            for system in _listed(text, "os") or re.findall(r"runs-on: (\w+)", text):
                name = _SYSTEMS[system.partition("-")[0]]
                cells.setdefault(python, {})[name] = f"{tests}, may fail" if may_fail else tests
    rows = [[f"CPython {python}", *(cells[python].get(name, "none") for name in _SYSTEMS.values())] for python in cells]
    return table(["", *_SYSTEMS.values()], rows)


def _job(workflow: str, name: str) -> str:
    """The text of one job."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", workflow, re.MULTILINE)
    if found is None:
        raise ValueError(f"there is no job {name!r}")
    return found[1]


def _listed(job: str, key: str) -> list[str]:
    """The entries of a list in a job's matrix."""
    found = re.search(rf"^ +{key}: \[(.*)\]$", job, re.MULTILINE)
    return [] if found is None else [each.strip(' "') for each in found[1].split(",")]


REGIONS: dict[tuple[Path, str], Callable[[], str]] = {
    (REFERENCE / "configuration.md", "settings"): configuration,
    (REFERENCE / "errors.md", "tree"): error_tree,
    (REFERENCE / "errors.md", "messages"): error_messages,
    (REFERENCE / "states.md", "task"): lambda: diagram(TASK_TRANSITIONS),
    (REFERENCE / "states.md", "worker"): lambda: diagram(WORKER_TRANSITIONS),
    (REFERENCE / "states.md", "pool"): lambda: diagram(POOL_TRANSITIONS),
    (REFERENCE / "capabilities.md", "capabilities"): capabilities,
    (REFERENCE / "metrics.md", "metrics"): metrics_table,
    (REFERENCE / "metrics.md", "labels"): metric_labels,
    (REFERENCE / "metrics.md", "events"): hook_events,
    (REFERENCE / "metrics.md", "task-record"): lambda: record_fields(TaskRecord),
    (REFERENCE / "metrics.md", "worker-exit"): lambda: record_fields(WorkerExit),
    (REFERENCE / "platforms.md", "platforms"): platforms,
    (ROOT / "docs" / "why-not.md", "survivors"): survivors("survival"),
    (ROOT / "docs" / "why-not.md", "cluster-survivors"): survivors("survival-clusters"),
    (ROOT / "docs" / "architecture.md", "layers"): layers,
    (ROOT / "docs" / "how-to" / "check-your-code.md", "rules"): rules,
}


def main() -> None:
    """Write every region anew."""
    for (page, name), make in REGIONS.items():
        replace_region(page, name, make())
        print(f"{page.relative_to(ROOT)}: {name}")


if __name__ == "__main__":
    main()
