"""One sentence about the pool, the worst first."""

from __future__ import annotations

from typing import Any

import pytest

from lifepool.dashboard.verdict import last_line, verdict

WELL: dict[str, Any] = {
    "reasons": [],
    "config": {"min_workers": 2, "max_queue": 1000},
    "counts": {"workers": {"busy": 1, "ready": 1}, "queued": 0, "running": 1, "predicted_wait_s": 0.0},
    "lately": {"completed": 100.0, "submitted": 100.0, "refused": 0.0},
    "window": {"utilisation": 0.5, "loop_lag": 0.001},
    "start_error": None,
}
CRASHED = 'Traceback (most recent call last):\n  File "app.py", line 3\nRuntimeError: no model\n'


def said(**changes: Any) -> tuple[str, str]:
    facts: dict[str, Any] = {
        name: {**value, **changes[name]} if isinstance(value, dict) and name in changes else changes.get(name, value)
        for name, value in WELL.items()
    }
    found = verdict(**facts)
    return found["level"], found["text"]


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, "good", "All is well: 2 of 2 workers are up."),
        ({"reasons": ["broken"]}, "bad", "Broken: a bug"),
        ({"reasons": ["crash-looping"]}, "bad", "Crash loop: no worker comes up. The server's log says why."),
        ({"reasons": ["crash-looping"], "start_error": CRASHED}, "bad",
         "Crash loop: no worker comes up. RuntimeError: no model"),
        ({"reasons": ["closed"], "counts": {"workers": {}}}, "bad", "Closed: the pool takes no task any more. Restart"),
        ({"reasons": ["terminating", "closed"], "counts": {"workers": {}}}, "notable", "The server is ending"),
        ({"reasons": ["terminating"]}, "notable", "The server is ending: 1 tasks run, 0 wait."),
        ({"reasons": ["draining"]}, "bad", "Draining: nothing new is taken; 1 tasks run, 0 wait."),
        ({"reasons": ["created"], "counts": {"workers": {}}}, "notable", "Not started yet"),
        ({"reasons": ["starting"], "counts": {"workers": {"starting": 4}}}, "notable", "Starting: 0 of 4 workers"),
        ({"counts": {"workers": {"starting": 64}, "queued": 7}}, "bad",
         "No worker is up: 64 of 64 starting; 7 tasks wait."),
        ({"reasons": ["no-worker"], "counts": {"workers": {"starting": 64}, "queued": 7}, "lately": {"timed_out": 5.0}},
         "bad", "No worker is up: 64 of 64 starting; 7 tasks wait."),
        ({"reasons": ["no-worker"], "counts": {"workers": {"starting": 2}}, "lately": {}}, "bad", "No worker is up"),
        ({"reasons": ["of a later version"]}, "bad", "Not ready: of a later version."),
        ({"counts": {"workers": {}, "queued": 7}}, "bad", "No worker is up: there is none; 7 tasks wait."),
        ({"counts": {"workers": {}}, "config": {"min_workers": 0}}, "good", "All is well."),
        ({"lately": {"refused": 79.0, "submitted": 21.0}}, "bad", "Refusing 79 % of calls"),
        ({"lately": {"refused": 1.0, "submitted": 99.0}}, "notable", "Refusing 1 % of calls"),
        ({"lately": {"refused": 1.0, "submitted": 9999.0}}, "good", "All is well"),
        ({"lately": {"refused": 999.9, "submitted": 0.1}}, "bad", "Refusing 99 % of calls"),
        ({"lately": {"refused": 5.0, "submitted": 0.0}}, "bad", "Refusing 100 % of calls"),
        ({"counts": {"queued": 1000}}, "bad", "The queue is full: 1000 tasks wait"),
        ({"lately": {"lost": 50.0, "completed": 50.0}}, "bad", "50 % of tasks are lost"),
        ({"lately": {"timed_out": 30.0, "completed": 70.0}}, "bad", "30 % of tasks pass their timeout"),
        ({"lately": {"failed": 2.0, "completed": 98.0}}, "notable", "2 % of tasks fail"),
        ({"lately": {"failed": 0.6, "completed": 99.4}}, "notable", "less than 1 % of tasks fail"),
        ({"window": {"loop_lag": 1.25}}, "notable", "The event loop stood still for 1.2 s"),
        ({"counts": {"queued": 12, "predicted_wait_s": 2.5}, "window": {"utilisation": 0.99}}, "notable",
         "All workers are busy: 12 tasks wait, a new one for 2.5 s."),
        ({"lately": {}, "window": {}}, "good", "All is well"),  # the first second
    ],
)  # fmt: skip
def test_each_state_has_its_sentence(changes: dict[str, Any], level: str, text: str) -> None:
    found = said(**changes)
    assert found[0] == level
    assert found[1].startswith(text)


def test_the_worst_comes_first() -> None:
    everything: dict[str, Any] = {
        "reasons": ["saturated"],
        "counts": {"workers": {"starting": 64}, "queued": 1000},
        "lately": {"refused": 79.0, "submitted": 21.0, "lost": 1.0, "failed": 5.0},
        "window": {"loop_lag": 3.0, "utilisation": 1.0},
    }
    assert said(**everything)[1].startswith("No worker is up")
    everything["counts"]["workers"] = {"busy": 2}
    assert said(**everything)[1].startswith("Refusing 79 %")
    everything["lately"] = {"failed": 50.0, "completed": 50.0}
    everything["counts"]["queued"] = 3
    assert said(**everything)[1].startswith("50 % of tasks fail")
    everything["lately"] = {}
    assert said(**everything)[1].startswith("The event loop stood still")


@pytest.mark.parametrize(("text", "line"), [("", ""), ("\n \n", ""), ("a\n  b  \n\n", "b")])
def test_the_last_line_is_the_last_that_says_something(text: str, line: str) -> None:
    assert last_line(text) == line
