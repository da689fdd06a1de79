"""Names, failures and task details: right, bounded whatever comes, and never hurt by what a user's objects do."""

from __future__ import annotations

import json
import math
import tracemalloc

import pytest

from lifepool._transfer.exceptions import RemoteTraceback
from lifepool.dashboard.by_function import MAX_NAMES, OTHERS, SHOWN, Names
from lifepool.dashboard.document import document
from lifepool.dashboard.failures import MAX_KINDS, TEXTS_PER_SECOND, Failures
from lifepool.dashboard.formatting import (
    MAX_ARGUMENTS,
    MAX_MESSAGE,
    MAX_TRACEBACK,
    arguments_of,
    message_of,
    shown_name,
    traceback_of,
    visible,
)
from lifepool.dashboard.recorder import BEATS_PER_SAMPLE, Recorder
from lifepool.dashboard.task_details import MAX_TASKS, RecentTasks, details_of, under_way
from lifepool.errors import WorkerStartError
from lifepool.pool import Pool
from tests.dashboard.records import failed, settled


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text from me")

    __repr__ = __str__


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_name_has_its_count_mean_longest_and_failures() -> None:
    names = Names()
    for number, run_s, slowest in [(1, 0.2, True), (2, 0.6, True), (3, 0.4, False)]:
        task = settled(number, run_s=run_s)
        assert names.settled([task]) == ([task] if slowest else [])
        if slowest:
            names.remember("score", details_of(task, 1, private=True))
    names.settled([settled(4, run_s=None, outcome="lost")])
    names.failed("score")
    (row,) = names.slowest()
    assert (row["name"], row["count"], row["failures"], row["slowest"]) == ("score", 4, 1, 2)
    assert math.isclose(row["run_mean"], 0.4)  # type: ignore[arg-type]
    assert (row["run_max"], row["wait_mean"]) == (0.6, 0.5)


def test_names_without_end_keep_those_that_matter_and_lose_no_count() -> None:
    names = Names()
    for number in range(10_000):
        names.settled([settled(number, name=f"lambda-{number}", run_s=1e-6)])
        if number % 100 == 0:
            names.settled([settled(number, name="heavy", run_s=1.0)])
    assert len(names) <= MAX_NAMES
    rows = names.slowest()
    assert len(rows) == SHOWN + 1
    assert (rows[0]["name"], rows[0]["count"]) == ("heavy", 100)
    assert rows[-1]["name"] == OTHERS
    assert sum(row["count"] for row in rows) == 10_100  # type: ignore[misc]
    assert sum(row["count"] for row in names.slowest()) == 10_100  # type: ignore[misc] # looking changes nothing


# --- failures -------------------------------------------------------------------------------------------------------


def test_alike_failures_are_one_with_the_text_of_the_last() -> None:
    failures = Failures()
    for number in (1, 2):
        error = ValueError(f"row {number}")
        error.__cause__ = RemoteTraceback(f"Traceback of {number}")
        failures.add(failed(number, error), "failed", error, float(number))
    (row,) = failures.recent()
    assert (row["count"], row["message"], row["tasks"], row["first"], row["last"]) == (2, "row 2", [1, 2], 1.0, 2.0)
    assert failures.traceback(row["number"]) == "Traceback of 2"  # type: ignore[arg-type]
    assert failures.traceback(99) is None


def test_texts_are_taken_only_so_often_a_second() -> None:
    failures = Failures()
    for number in range(1, 1001):
        failures.add(failed(number, ValueError(str(number))), "failed", ValueError(str(number)), 1.0)
    assert failures.recent()[0]["message"] == str(TEXTS_PER_SECOND + 1)
    failures.refill()
    failures.add(failed(1001, ValueError("later")), "failed", ValueError("later"), 2.0)
    assert failures.recent()[0]["message"] == "later"
    assert failures.recent()[0]["count"] == 1001


def test_a_flood_of_one_kind_does_not_take_the_texts_of_the_others() -> None:
    failures = Failures()
    for number in range(1000):
        failures.add(failed(number, ValueError("flood")), "refused", ValueError("flood"), 1.0)
    failures.add(failed(1000, KeyError("rare"), name="other"), "failed", KeyError("rare"), 1.0)
    assert failures.recent()[0]["message"] == "'rare'"


def test_kinds_without_end_push_out_the_oldest() -> None:
    failures = Failures()
    for number in range(1000):
        failures.add(failed(number, ValueError(), name=f"f{number}"), "failed", ValueError(), 1.0)
    assert len(failures) == MAX_KINDS
    assert [row["name"] for row in failures.recent()][:2] == ["f999", "f998"]


def test_texts_can_be_left_out() -> None:
    failures = Failures(texts=False)
    failures.add(failed(1, ValueError("secret")), "failed", ValueError("secret"), 1.0)
    assert "secret" not in json.dumps(failures.recent())
    assert failures.traceback(1) is None


# --- text -----------------------------------------------------------------------------------------------------------


def test_texts_are_bounded_and_keep_beginning_and_end() -> None:
    error = ValueError("x" * 1_000_000)
    error.__cause__ = RemoteTraceback("first line\n" + "y" * 1_000_000 + "\nlast line")
    assert len(message_of(error)) < MAX_MESSAGE + 60
    text = traceback_of(error)
    assert text is not None
    assert text.startswith("first line")
    assert text.endswith("last line")
    assert len(text) < MAX_TRACEBACK + 60


def test_objects_that_refuse_to_be_shown_hurt_nobody() -> None:
    assert message_of(Hostile()) == "<its str() raises>"
    shown = arguments_of([Hostile(), 1])
    assert "Hostile" in shown
    assert shown.endswith(", 1")


def test_an_error_that_was_raised_in_this_process_shows_its_own_traceback() -> None:
    try:
        raise KeyError("here")
    except KeyError as error:
        text = traceback_of(error)
    assert text is not None
    assert "test_tables.py" in text
    assert traceback_of(ValueError("never raised")) is None


def test_arguments_are_shortened() -> None:
    text = arguments_of(["a" * 10_000, list(range(10_000)), {"k": "v" * 9000}, *range(100)])
    assert len(text) < MAX_ARGUMENTS + 60
    assert "95 more" in text or "characters left out" in text


# --- task details ---------------------------------------------------------------------------------------------------


def test_the_oldest_task_goes_first() -> None:
    recent_tasks = RecentTasks()
    for number in range(MAX_TASKS + 10):
        recent_tasks.add(details_of(settled(number), 1, private=True))
    assert len(recent_tasks) == MAX_TASKS
    assert recent_tasks.find(9) is None
    found = recent_tasks.find(10)
    assert found is not None
    assert found.as_dict()["id"] == 10


def test_marks_are_those_of_the_seconds_asked_for_evenly_thinned_out() -> None:
    recent_tasks = RecentTasks()
    for number in range(1, 7):
        recent_tasks.add(details_of(settled(number, run_s=0.25), number, private=True))
    assert [row[0] for row in recent_tasks.between(2, 5, 99)] == [3, 4, 5]
    assert [row[0] for row in recent_tasks.between(0, 6, 2)] == [3, 6]
    assert recent_tasks.between(4, 5, 9) == [[5, 1, "score", 1.5, 0.25, "completed"]]


def test_what_may_tell_of_a_person_is_left_out_unless_asked_for() -> None:
    task = settled(1, fair_key="alice@example.org", notes={"lifepool.dashboard.arguments": "'alice'"})
    assert "alice" not in json.dumps(details_of(task, 1, private=True).as_dict())
    assert "alice@example.org" in json.dumps(details_of(task, 1, private=False).as_dict())


def test_the_slowest_of_a_name_is_remembered_long_after_the_others() -> None:
    recorder = Recorder()
    recorder.tasks_settled([settled(1, run_s=9.0)])
    for number in range(2, MAX_TASKS + 100):
        recorder.recent_tasks.add(details_of(settled(number), 1, private=True))
    assert recorder.recent_tasks.find(1) is None
    found = recorder.details(1)
    assert found is not None
    assert found.run_s == 9.0
    recorder.names.forget_details()
    assert recorder.details(1) is None


# --- all of it ------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_tasks_leave_what_ten_thousand_leave() -> None:
    """Names, failures, errors and tasks without end: what is kept does not grow."""
    pool, recorder = Pool(max_workers=1), Recorder()
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(100)]

    def feed(first: int, many: int) -> None:
        for number in range(first, first + many):
            if number % 50:
                recorder.tasks_settled([settled(number, name="score" if number % 3 else f"name-{number % 5000}")])
            else:
                recorder.tasks_settled([failed(number, kinds[number % 99]("x" * 500), name=f"f-{number % 400}")])
            if number % 100 == 0:
                recorder._refill()
            if number % (100 * BEATS_PER_SAMPLE) == 0:
                recorder.take(pool)

    feed(1, 60_000)
    tracemalloc.start()
    try:
        feed(60_001, 10_000)
        before = tracemalloc.get_traced_memory()[0]
        feed(70_001, 30_000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000
    assert (len(recorder.recent_tasks), len(recorder.failures)) == (MAX_TASKS, MAX_KINDS)
    assert len(recorder.names) <= MAX_NAMES
    answer = json.dumps(document(pool, recorder), allow_nan=False)
    assert len(answer) < 300_000
    later = json.dumps(document(pool, recorder, since=f"{recorder.instance}-{recorder.history.number - 1}"))
    assert len(later) < 60_000


# --- text that would harm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("naïve 名前 😀", "naïve 名前 😀"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("\u2066isolated\u2069", "\\u2066isolated\\u2069"),
        ("a\u200bb\ufeffc", "a\\u200bb\\ufeffc"),
        ("bell\x07 \x1b[31m", "bell\\x07 \\x1b[31m"),
        ("half \ud800", "half \\ud800"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_what_cannot_be_seen_is_written_as_an_escape(text: str, expected: str) -> None:
    assert visible(text) == expected
    assert shown_name(text) == expected.replace("\n", "\\n").replace("\t", "\\t")
    assert message_of(ValueError(text)) == expected


def test_every_text_that_is_shown_is_made_visible() -> None:
    name = "evil\u202egnp"
    task = settled(1)
    task.name = task.fair_key = name
    failures, names = Failures(), Names()
    failures.add(task, "failed", ValueError(name), 1.0)
    names.settled([task])
    shown = [*failures.recent(), *names.slowest(), details_of(task, 1, private=False).as_dict(), under_way(task)]
    assert "\u202e" not in json.dumps(shown, ensure_ascii=False)
    assert len(shown) == 4


def test_of_a_worker_that_could_not_start_the_exceptions_own_line_is_shown() -> None:
    cause = "Traceback (most recent call last):\n" + "  File ...\n" * 500 + "RuntimeError: no model\n"
    error = WorkerStartError(cause, hint="the initializer failed; see the traceback")
    assert message_of(error) == "a worker could not start: RuntimeError: no model"
    assert "RuntimeError: no model" in (traceback_of(error) or "")
