"""Turn the pool's errors into ``application/problem+json`` (RFC 9457), and document that in OpenAPI.

Clients are strangers. They get what concerns them, in sentences of this module; what a developer wants to know
(the error's own message, and its hint) is in the log, and in the answer only if ``install(app, pool, hints=True)`` or
the app's debug mode asks for it.
"""

from __future__ import annotations

import logging
import math
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from lifepool._engine.failure_log import cause_of
from lifepool._engine.rate_limiter import RateLimiter, and_before
from lifepool.errors import (
    BackendUnavailable,
    ClientDisconnected,
    InternalError,
    PayloadTooLarge,
    PoolClosed,
    PoolError,
    QueueFull,
    TaskTimeout,
    WorkerLost,
    WorkerStartError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

logger: logging.Logger = logging.getLogger("lifepool")

MEDIA_TYPE = "application/problem+json"

#: What strangers get; a subclass that is not here counts as what it is a subclass of.
_FOR_STRANGERS: dict[type[PoolError], str] = {
    QueueFull: "the service is busy; try again later",
    PoolClosed: "the service takes no work now; try again later",
    WorkerStartError: "the service takes no work now; try again later",
    BackendUnavailable: "the service takes no work now; try again later",
    TaskTimeout: "the work was not done in time",
    PayloadTooLarge: "there is too much data",
    ClientDisconnected: "the client left before the work was done",
    PoolError: "the work failed",
}

#: What a route that uses the pool may answer besides its own answers, most likely first.
_DOCUMENTED: tuple[tuple[type[PoolError], str], ...] = (
    (QueueFull, "The service is busy, starting or shutting down; try again after Retry-After seconds."),
    (TaskTimeout, "The work was not done in time."),
    (WorkerLost, "The work failed."),
    (PayloadTooLarge, "There is too much data."),
)

#: What is an operation in an OpenAPI path; beside them stand its summary, parameters and servers.
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "An error as described by RFC 9457.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:lifepool:queue-full"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "retry_after": {"type": "number", "description": "Seconds after which trying again makes sense."},
    },
}
_HINT_SCHEMA = {"type": "string", "description": "What a developer can do about it; only in debug mode."}


def problem(error: PoolError, *, hints: bool = False, jitter: float = 0.0) -> dict[str, Any]:
    """Make the body of an error response.

    Args:
        error: What the pool raised.
        hints: For developers: say what the error says, and its hint. An internal error's history and a worker's
            traceback stay in the log all the same.
        jitter: In [0, 1): see ``retry_after``.
    """
    body: dict[str, Any] = {
        "type": f"urn:lifepool:{_dashed(type(error).__name__)}",
        "title": _title(error.status_hint),
        "status": error.status_hint,
        "detail": detail(error, hints=hints),
    }
    if hints and error.hint:
        body["hint"] = error.hint
    if isinstance(error, QueueFull):
        body["retry_after"] = round(_bounded(error.retry_after) * (1 + jitter / 2), 3)
    return body


def detail(error: PoolError, *, hints: bool) -> str:
    """Return the sentence about an error, for developers or for strangers."""
    if not hints:
        return next(_FOR_STRANGERS[cls] for cls in type(error).__mro__ if cls in _FOR_STRANGERS)
    if isinstance(error, InternalError):
        return "the pool has a bug; its log says more"
    if isinstance(error, WorkerStartError):
        return "no worker can be started; the log says why"
    return str(error.args[0]) if error.args else type(error).__name__


def retry_after(error: QueueFull, jitter: float) -> int:
    """Make the ``Retry-After`` header: whole seconds, never fewer than advised, up to half as many more.

    All who are refused in the same moment would else come back in the same moment.

    Args:
        error: The refusal.
        jitter: In [0, 1): which part of the spread is added.
    """
    least = max(1, math.ceil(_bounded(error.retry_after)))
    return least + int(jitter * (max(1, least // 2) + 1))


def _bounded(seconds: float) -> float:
    """Return a number that fits into a header, whatever an error of the user's own has."""
    return seconds if 0 <= seconds <= 1e6 else 1e6 if seconds > 1e6 else 1.0


class AnswerLog:
    """Log what was answered, with what the client does not get.

    One line a second for each kind of error, with a count: refusals come by the thousand. What the pool has logged
    itself, a lost task for one, is not said again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = RateLimiter(1.0)
        self._clock = clock

    def answered(self, method: str, route: str, error: PoolError) -> None:
        """Say that an error was made an answer.

        Args:
            method: Of the request.
            route: Its path as the app declares it: what replaces ``{id}`` is the client's.
            error: What the answer is about.
        """
        if error._logged or isinstance(error, (ClientDisconnected, InternalError)):
            return
        kind = type(error).__name__
        if self._limiter.may_say(kind, self._clock()):
            left_out = and_before(self._limiter.left_out(kind))
            hint = f" ({error.hint})" if error.hint else ""
            status, cause = error.status_hint, cause_of(error)
            logger.warning("%s %s was answered %d, %s: %s%s%s", method, route, status, kind, cause, hint, left_out)


def pool_responses() -> dict[int | str, dict[str, Any]]:
    """Make OpenAPI responses of a route that uses the pool: ``@app.post(..., responses=pool_responses())``.

    They refer to the schema ``Problem``, which ``install`` brings.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for error, description in _DOCUMENTED:
        responses[error.status_hint] = {
            "description": description,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    responses[QueueFull.status_hint]["headers"] = {
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}
    }
    return responses


def document(schema: dict[str, Any], is_documented: Callable[[str, str], bool] | None, *, hints: bool) -> None:
    """Put the responses into an app's OpenAPI document.

    Args:
        schema: The document.
        is_documented: Which operations they belong to; None: all.
        hints: Whether answers have hints.
    """
    shown = dict(PROBLEM_SCHEMA)
    if hints:
        shown["properties"] = {**PROBLEM_SCHEMA["properties"], "hint": _HINT_SCHEMA}
    schema.setdefault("components", {}).setdefault("schemas", {}).setdefault("Problem", shown)
    for path, operations in schema.get("paths", {}).items():
        for method, operation in operations.items():
            if method not in _METHODS or (is_documented is not None and not is_documented(path, method.upper())):
                continue
            for status, response in pool_responses().items():
                operation.setdefault("responses", {}).setdefault(str(status), response)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499 is not registered
        return "Client Closed Request" if status == 499 else "Error"


def _dashed(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
