"""What the pool's errors become on the wire: status, problem+json, Retry-After, close codes. And what stays inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

import lifepool
from lifepool import Pool, PoolDep, PoolError, QueueFull, TaskTimeout, WorkerLost, WorkerStartError
from lifepool.errors import (
    BackendError,
    BackendUnavailable,
    BackendUnsupported,
    ClientDisconnected,
    InternalError,
    PayloadTooLarge,
    PoolClosed,
    TaskError,
    TaskNotPicklable,
)
from lifepool.integrations.fastapi import install, problem
from lifepool.integrations.problems import AnswerLog
from tests.integrations.clients import TestClient
from tests.tasks import echo, exit_hard, fail, hold_in_c, make_lambda

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.engine.gates import Gate

SECRET = "/home/me/secret.py"
TRACEBACK = f'Traceback (most recent call last):\n  File "{SECRET}", line 1'

#: One of every class of the tree, with the status and the type that clients see.
ERRORS: list[tuple[PoolError, int, str]] = [
    (PoolError("something"), 500, "pool-error"),
    (PoolClosed(), 503, "pool-closed"),
    (QueueFull("the queue is full (9 wait)", retry_after=2.2), 503, "queue-full"),
    (TaskError("it raised SystemExit(1)"), 500, "task-error"),
    (TaskTimeout(2.0, started=True), 504, "task-timeout"),
    (TaskNotPicklable("result", "result.lock", "cannot pickle a lock"), 500, "task-not-picklable"),
    (PayloadTooLarge("arguments", 2000, 1000), 413, "payload-too-large"),
    (ClientDisconnected(), 499, "client-disconnected"),
    (WorkerLost(signal=9, story=("sent", "gone")), 500, "worker-lost"),
    (WorkerStartError(TRACEBACK), 503, "worker-start-error"),
    (BackendError("broken"), 500, "backend-error"),
    (BackendUnavailable("no broker"), 503, "backend-unavailable"),
    (BackendUnsupported("cannot kill", capability="kill"), 500, "backend-unsupported"),
    (InternalError(f"a bug in {SECRET}", (f"task 1 of {SECRET}",)), 500, "internal-error"),
]
each_error = pytest.mark.parametrize(
    ("error", "status", "name"), ERRORS, ids=[type(error).__name__ for error, _, _ in ERRORS]
)


class Raises:
    """An app that raises the error of the moment wherever one can be raised."""

    def __init__(self, *, hints: bool | None = None) -> None:
        self.error: Exception = PoolError("not set")
        self.pool = Pool(backend="inline")
        self.app = FastAPI()
        self.router = APIRouter()
        self.app.get("/handler")(self.fail)
        self.app.get("/dependency", dependencies=[Depends(self.fail)])(lambda: None)
        self.app.get("/generator", dependencies=[Depends(self.fail_after_yield)])(self.fail)
        self.app.get("/sync")(self.fail_in_thread)
        self.router.get("/router")(self.fail)
        self.app.include_router(self.router, prefix="/included")
        self.app.websocket("/websocket")(self.fail_in_websocket)
        self.app.websocket("/denied")(self.deny_websocket)
        install(self.app, self.pool, hints=hints)

    async def fail(self) -> None:
        raise self.error

    def fail_in_thread(self) -> None:
        raise self.error

    async def fail_after_yield(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.pool.run(echo, "the pool is still there")

    async def fail_in_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        raise self.error

    async def deny_websocket(self, websocket: WebSocket) -> None:
        raise self.error


@pytest.fixture
def raises() -> Raises:
    return Raises()


@pytest.fixture
def client(raises: Raises) -> Iterator[TestClient]:
    with TestClient(raises.app) as opened:
        yield opened


def all_subclasses(cls: type[PoolError]) -> set[type[PoolError]]:
    return {cls}.union(*(all_subclasses(child) for child in cls.__subclasses__()))


def test_the_table_of_this_file_has_every_error() -> None:
    shipped = {cls for cls in all_subclasses(PoolError) if cls.__module__ == PoolError.__module__}
    assert {type(error) for error, _, _ in ERRORS} == shipped


@each_error
def test_an_error_is_answered_with_its_status_as_a_problem(
    raises: Raises, client: TestClient, error: PoolError, status: int, name: str
) -> None:
    raises.error = error
    answer = client.get("/handler")
    body = answer.json()
    assert answer.status_code == body["status"] == status == error.status_hint
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:lifepool:{name}"
    assert body["title"]
    assert body["detail"]
    assert set(body) <= {"type", "title", "status", "detail", "retry_after"}


@each_error
def test_strangers_learn_nothing_of_the_code(
    raises: Raises, client: TestClient, error: PoolError, status: int, name: str
) -> None:
    raises.error = error
    text = client.get("/handler").text
    assert SECRET not in text
    assert "Traceback" not in text
    assert str(error.args[0]) not in text
    if error.hint:
        assert error.hint not in text


@each_error
def test_with_hints_a_developer_learns_more_but_no_path_and_no_history_of_the_server(
    error: PoolError, status: int, name: str
) -> None:
    raises = Raises(hints=True)
    raises.error = error
    with TestClient(raises.app) as client:
        answer = client.get("/handler")
    assert answer.json().get("hint", "") == error.hint
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    if not isinstance(error, (InternalError, WorkerStartError)):
        assert answer.json()["detail"] == error.args[0]


@pytest.mark.parametrize(
    ("debug", "hints", "shown"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_hints_are_shown_in_debug_mode_unless_somebody_says_otherwise(
    debug: bool, hints: bool | None, shown: bool
) -> None:
    raises = Raises(hints=hints)
    raises.app.debug = debug
    raises.error = WorkerLost(signal=11)
    with TestClient(raises.app) as client:
        assert ("os._exit" in client.get("/handler").text) is shown
    assert ("hint" in raises.app.openapi()["components"]["schemas"]["Problem"]["properties"]) is shown


def test_a_second_install_leaves_what_the_first_one_said_of_hints() -> None:
    raises = Raises(hints=True)
    install(raises.app, Pool(backend="inline", name="second"))
    raises.error = WorkerLost(signal=11)
    with TestClient(raises.app) as client:
        assert "hint" in client.get("/handler").json()


# --- when to come back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "jitter", "header"),
    [
        (0.001, 0.0, 1), (0.001, 0.999, 2), (0.05, 0.49, 1), (0.05, 0.5, 2), (1.0, 0.0, 1), (1.2, 0.0, 2),
        (1.2, 0.999, 3), (90.0, 0.0, 90), (90.0, 0.999, 135), (1e6, 0.0, 1_000_000),
        (float("inf"), 0.0, 1_000_000), (float("nan"), 0.0, 1), (-3.0, 0.0, 1),
    ],
)  # fmt: skip
def test_retry_after_is_a_whole_number_of_seconds_and_at_least_one(
    raises: Raises,
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    jitter: float,
    header: int,
) -> None:
    monkeypatch.setattr("lifepool.integrations.fastapi.random", lambda: jitter)
    raises.error = QueueFull("full", retry_after=seconds)
    answer = client.get("/handler")
    assert answer.headers["retry-after"] == str(header)
    if 0 <= seconds <= 1e6:
        assert answer.json()["retry_after"] == round(seconds * (1 + jitter / 2), 3)


def test_those_who_are_refused_together_do_not_come_back_together(raises: Raises, client: TestClient) -> None:
    raises.error = QueueFull("full", retry_after=10.0)
    seconds = {int(client.get("/handler").headers["retry-after"]) for _ in range(100)}
    assert len(seconds) >= 3
    assert seconds <= set(range(10, 16))


# --- what the log has -----------------------------------------------------------------------------------------------


def test_what_strangers_do_not_learn_is_in_the_log_once_a_second_for_each_kind(
    raises: Raises, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    raises.app.state.lifepool.log = AnswerLog(clock=lambda: 0.0)
    for _ in range(50):
        raises.error = QueueFull("the queue is full (3 tasks wait)", retry_after=1)
        client.get("/handler")
    raises.error = PoolClosed()
    client.get("/included/router")
    full, closed = [record.getMessage() for record in caplog.records]
    assert full.startswith(
        "GET /handler was answered 503, QueueFull: the queue is full (3 tasks wait) (try again after"
    )
    assert closed.endswith("/router was answered 503, PoolClosed: the pool is closed")


def test_the_log_counts_what_it_leaves_out_and_names_the_route_not_its_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    log = AnswerLog(clock=lambda: now[0])
    for now[0] in (0.0, 0.1, 0.9, 1.0):
        log.answered("GET", "/users/{email}", PoolClosed())
    assert len(caplog.records) == 2
    assert caplog.records[-1].getMessage().endswith("(and 2 times more since this was last said)")


def test_what_the_pool_has_logged_is_not_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(an_app_that_runs(Pool(max_workers=1), exit_hard, 3)) as client:
        client.get("/")
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "exit_hard" in warned[0]
    assert "os._exit" in warned[0], "the hint"


@pytest.mark.parametrize("error", [ClientDisconnected(), InternalError("a bug")])
def test_a_client_that_left_is_no_warning_and_a_bug_was_reported(
    raises: Raises, client: TestClient, error: PoolError, caplog: pytest.LogCaptureFixture
) -> None:
    raises.error = error
    client.get("/handler")
    assert caplog.records == []


def test_only_a_full_queue_says_when_to_come_back(raises: Raises, client: TestClient) -> None:
    for error, _, _ in ERRORS:
        raises.error = error
        assert ("retry-after" in client.get("/handler").headers) == isinstance(error, QueueFull)


@pytest.mark.parametrize("path", ["/handler", "/dependency", "/generator", "/sync", "/included/router"])
def test_it_is_the_same_wherever_the_error_was_raised(raises: Raises, client: TestClient, path: str) -> None:
    raises.error = TaskTimeout(2.0, started=False)
    answer = client.get(path)
    assert answer.status_code == 504
    assert answer.json() == problem(TaskTimeout(2.0, started=False))


def test_the_users_own_subclass_of_an_error_is_answered_like_it(raises: Raises, client: TestClient) -> None:
    class Mine(QueueFull):
        status_hint = 429

    raises.error = Mine("too many of yours", retry_after=3)
    answer = client.get("/handler")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] in ("3", "4")
    assert answer.json()["type"] == "urn:lifepool:mine"


def test_a_handler_of_the_users_own_for_one_error_wins(raises: Raises) -> None:
    from fastapi import Request
    from fastapi.responses import PlainTextResponse

    async def mine(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("come back later", 503)

    raises.app.add_exception_handler(QueueFull, mine)
    raises.error = QueueFull("full", retry_after=1)
    with TestClient(raises.app) as client:
        assert client.get("/handler").text == "come back later"


def test_a_handler_for_the_standard_timeout_error_does_not_take_ours(raises: Raises) -> None:
    async def mine(request: Any, error: Exception) -> None:
        raise AssertionError("called")

    raises.app.add_exception_handler(TimeoutError, mine)
    raises.error = TaskTimeout(1.0, started=True)
    with TestClient(raises.app) as client:
        assert client.get("/handler").status_code == 504


# --- WebSockets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (QueueFull("the queue is full", retry_after=1), 1013),
        (PoolClosed("the pool is closed"), 1013),
        (PayloadTooLarge("arguments", 2000, 1000), 1009),
        (WorkerLost(signal=11), 1011),
        (TaskTimeout(1.0, started=True), 1011),
    ],
)
def test_an_open_websocket_is_closed_with_a_code_and_a_reason(
    raises: Raises, client: TestClient, error: PoolError, code: int
) -> None:
    raises.error = error
    with client.websocket_connect("/websocket") as websocket, pytest.raises(WebSocketDisconnect) as caught:
        websocket.receive_text()
    assert caught.value.code == code
    assert caught.value.reason == problem(error)["detail"][:123]


def test_the_reason_of_a_closed_websocket_fits_into_its_frame() -> None:
    raises = Raises(hints=True)
    raises.error = TaskError("ä" * 200)
    with (
        TestClient(raises.app) as client,
        client.websocket_connect("/websocket") as websocket,
        pytest.raises(WebSocketDisconnect) as caught,
    ):
        websocket.receive_text()
    assert caught.value.reason == "ä" * 61


def test_a_websocket_that_was_not_accepted_is_refused_with_the_problem(raises: Raises, client: TestClient) -> None:
    from starlette.testclient import WebSocketDenialResponse

    raises.error = QueueFull("full", retry_after=2)
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/denied"):
        pytest.fail("it was accepted")
    assert caught.value.status_code == 503
    assert caught.value.headers["retry-after"] in ("2", "3")
    assert caught.value.json()["type"] == "urn:lifepool:queue-full"


# --- apps within apps -----------------------------------------------------------------------------------------------


def test_a_mounted_app_answers_errors_if_the_pool_is_installed_there_too(raises: Raises) -> None:
    inner = Raises()
    install(inner.app, raises.pool)
    inner.error = QueueFull("full", retry_after=1)
    raises.app.mount("/inner", inner.app)
    with TestClient(raises.app) as client:
        assert client.get("/inner/handler").status_code == 503
    assert inner.pool.state.value == "created"  # a mounted app's lifespan does not run


def test_a_mounted_app_without_install_answers_500_as_the_documentation_warns(raises: Raises) -> None:
    inner = FastAPI()

    @inner.get("/")
    async def full() -> None:
        raise QueueFull("full", retry_after=1)

    raises.app.mount("/inner", inner)
    with TestClient(raises.app, raise_server_exceptions=False) as client:
        assert client.get("/inner/").status_code == 500


# --- from a real worker ---------------------------------------------------------------------------------------------


def an_app_that_runs(pool: Pool, fn: Callable[..., Any], *args: Any, **options: Any) -> FastAPI:
    app = FastAPI()
    install(app, pool)

    @app.get("/")
    async def answer(pool: PoolDep) -> Any:
        return await pool.run(fn, *args, **options)

    return app


def test_a_worker_that_dies_is_a_500_and_the_next_request_is_served() -> None:
    pool = Pool(max_workers=1)
    app = an_app_that_runs(pool, exit_hard, 3)

    @app.get("/next")
    async def following(pool: PoolDep) -> Any:
        return await pool.run(echo, "alive")

    with TestClient(app) as client:
        answer = client.get("/")
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:lifepool:worker-lost")
        assert answer.json()["detail"] == "the work failed"
        assert client.get("/next").json() == "alive"


def test_a_task_that_passes_its_timeout_is_a_504(gate: Gate) -> None:
    with TestClient(an_app_that_runs(Pool(max_workers=1), hold_in_c, gate.address, timeout=0.3)) as client:
        answer = client.get("/")
    assert answer.status_code == 504
    assert answer.json()["detail"] == "the work was not done in time"


def test_a_result_that_cannot_be_pickled_is_a_500_that_names_it() -> None:
    with TestClient(an_app_that_runs(Pool(max_workers=1), make_lambda)) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:lifepool:task-not-picklable")


def test_arguments_above_the_limit_are_a_413() -> None:
    with TestClient(an_app_that_runs(Pool(max_workers=1, max_payload=1000), echo, "x" * 2000)) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:lifepool:payload-too-large")


def test_an_exception_of_the_users_own_is_fastapis_500_without_the_workers_traceback() -> None:
    app = an_app_that_runs(Pool(max_workers=1), fail, "the password is 1234")
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


def test_a_worker_that_cannot_start_fails_the_start_of_the_app() -> None:
    pool = Pool(max_workers=1, initializer=fail, initargs=("no model",))
    app = an_app_that_runs(pool, echo, 1)
    with pytest.raises(lifepool.WorkerStartError, match="no model"), TestClient(app):
        pytest.fail("it started")
    assert pool.state.value == "closed"
