"""The errors are an interface: their tree, their fields, what they tell, and that they survive a pickle."""

from __future__ import annotations

import pickle

import pytest

from lifepool.errors import (
    BackendError,
    BackendUnavailable,
    BackendUnsupported,
    InternalError,
    PayloadTooLarge,
    PoolClosed,
    PoolError,
    QueueFull,
    TaskError,
    TaskNotPicklable,
    TaskTimeout,
    WorkerLost,
    WorkerStartError,
)

EACH: list[PoolError] = [
    PoolClosed(),
    PoolClosed("the pool was never started", hint="start it"),
    QueueFull("the queue is full", retry_after=1.5),
    TaskError("it could not"),
    TaskTimeout(2.0, started=True),
    TaskTimeout(2.0, started=False),
    TaskNotPicklable("arguments", "args[0].lock", "cannot pickle '_thread.lock' object"),
    PayloadTooLarge("result", 2_000_000, 1_000_000),
    WorkerLost(exitcode=3, story=("1.0 TaskSubmitted",)),
    WorkerLost(signal=9, oom_suspected=True),
    WorkerStartError("ImportError: model", hint="install it"),
    BackendError("it is at fault"),
    BackendUnavailable("nobody answers", hint="start the broker"),
    BackendUnsupported("it can't", capability="kill"),
    InternalError("impossible", ("1.0 this", "2.0 that")),
]


@pytest.mark.parametrize("error", EACH, ids=lambda error: type(error).__name__)
def test_an_error_survives_a_pickle_with_all_that_it_knows(error: PoolError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))
    assert (copy.hint, copy.status_hint) == (error.hint, error.status_hint)


@pytest.mark.parametrize(
    ("error", "bases", "status"),
    [
        (PoolClosed, (PoolError, RuntimeError), 503),
        (QueueFull, (PoolError,), 503),
        (TaskError, (PoolError,), 500),
        (TaskTimeout, (TaskError, TimeoutError), 504),
        (TaskNotPicklable, (TaskError, TypeError), 500),
        (PayloadTooLarge, (TaskError,), 413),
        (WorkerLost, (TaskError,), 500),
        (WorkerStartError, (PoolError,), 503),
        (BackendError, (PoolError,), 500),
        (BackendUnavailable, (BackendError,), 503),
        (BackendUnsupported, (BackendError,), 500),
        (InternalError, (PoolError,), 500),
    ],
)
def test_the_tree_and_its_http_statuses(
    error: type[PoolError], bases: tuple[type[Exception], ...], status: int
) -> None:
    assert error.__bases__ == bases
    assert error.status_hint == status


def test_each_error_that_a_user_can_do_something_about_says_what() -> None:
    silent = {type(error) for error in EACH if not error.hint}
    assert silent == {PoolClosed, TaskError, BackendError, BackendUnsupported}, "these get their hint where they arise"


def test_the_hint_follows_the_message() -> None:
    assert str(PoolClosed("the pool is closed", hint="start it again")) == "the pool is closed (start it again)"
    assert str(PoolClosed()) == "the pool is closed"


def test_an_error_without_a_message_is_called_by_its_class() -> None:
    bare = PoolError.__new__(PoolError)
    assert str(bare) == "PoolError"


def test_a_hint_of_one_error_is_not_the_hint_of_the_next() -> None:
    WorkerStartError("x", hint="once")
    assert WorkerStartError("y").hint == ""


def test_a_full_queue_says_when_to_try_again() -> None:
    error = QueueFull("the queue is full", retry_after=1.5)
    assert error.retry_after == 1.5
    assert "retry_after" in str(error)


def test_a_timeout_tells_waiting_from_running() -> None:
    running, waiting = TaskTimeout(0.25, started=True), TaskTimeout(0.25, started=False)
    assert str(running).startswith("the task passed its timeout of 0.25 s while it was running (")
    assert str(waiting).startswith("the task passed its timeout of 0.25 s while it was waiting in the queue (")
    assert (running.timeout, running.started, waiting.started) == (0.25, True, False)
    assert running.hint != waiting.hint


def test_what_cannot_be_pickled_is_named_by_its_path() -> None:
    error = TaskNotPicklable("result", "result['lock']", "no locks")
    assert (error.side, error.path) == ("result", "result['lock']")
    assert str(error).startswith("result['lock'] can't be pickled: no locks")


def test_a_large_payload_says_how_large_and_how_large_it_may_be() -> None:
    error = PayloadTooLarge("arguments", 2_000_000, 1_000_000)
    assert (error.side, error.size, error.limit) == ("arguments", 2_000_000, 1_000_000)
    assert "the pickled arguments has 2,000,000 bytes, the limit is 1,000,000" in str(error)


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (WorkerLost(signal=11), "killed by signal 11"),
        (WorkerLost(exitcode=3), "exited with code 3"),
        (WorkerLost(exitcode=0), "exited with code 0"),
        (WorkerLost(), "it vanished"),
        (WorkerLost(exitcode=1, reason="it sent invalid data"), "it sent invalid data"),
    ],
)
def test_a_lost_worker_says_how_it_ended(error: WorkerLost, how: str) -> None:
    assert error.args[0] == f"the worker died while it ran this task: {how}"


def test_a_worker_that_was_probably_killed_for_its_memory_hints_at_memory() -> None:
    assert "max_worker_memory" in WorkerLost(signal=9, oom_suspected=True).hint
    assert "retries=1" in WorkerLost(signal=9).hint


def test_a_worker_that_could_not_start_shows_its_own_traceback() -> None:
    error = WorkerStartError("Traceback:\n  ImportError: model\n\n")
    assert str(error) == "a worker could not start: Traceback:\n  ImportError: model"
    assert error.cause == "Traceback:\n  ImportError: model\n\n"


def test_what_a_backend_cannot_do_has_a_name() -> None:
    assert BackendUnsupported("it can't", capability="kill", hint="use backend='local'").capability == "kill"


def test_a_bug_of_ours_tells_its_story_and_asks_for_a_report() -> None:
    error = InternalError("impossible", ("1.0 this", "2.0 that"))
    assert error.args[0] == "impossible\n  1.0 this\n  2.0 that"
    assert error.story == ("1.0 this", "2.0 that")
    assert "please report it" in str(error)


@pytest.mark.parametrize(
    ("error", "also"), [(PoolClosed(), RuntimeError), (TaskTimeout(1, started=True), TimeoutError)]
)
def test_standard_except_clauses_catch_their_kind(error: Exception, also: type[Exception]) -> None:
    with pytest.raises(also):
        raise error
