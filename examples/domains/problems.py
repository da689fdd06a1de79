"""Bad input becomes ``application/problem+json`` (RFC 9457) that says what was expected."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lifepool import TaskTimeout
from lifepool.integrations.fastapi import MEDIA_TYPE, problem

# Said instead of pydantic's words, which speak of Python.
MESSAGES = {
    "missing": "{where} is missing.",
    "string_type": "{where} is not text.",
    "model_attributes_type": "The body is not a JSON object sent as application/json.",
    "json_invalid": "The body is not valid JSON: {error} at character {position}.",
}


class Problem(HTTPException):
    """An error that ends a request: what is wrong (`detail`) and what to do (`hint`)."""

    def __init__(self, status: int, detail: str, hint: str | None = None, **more: Any) -> None:
        super().__init__(status, detail)
        self.members = {**({"hint": hint} if hint else {}), **more}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Build `responses=` of a route that can end in these errors; lifepool brings the schema."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {s: {"description": HTTPStatus(s).phrase, "content": content} for s in statuses}


def install(app: FastAPI) -> None:
    """Make every error of `app` that is not the pool's own a problem."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(TaskTimeout, _late)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what add_exception_handler promises, for mypy
    if error.status_code == 400:  # FastAPI could not even parse the body
        error = _expected_json(_why_unreadable(error.__cause__))
    return _respond(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return _respond(_expected_json(" ".join(map(_explain, error.errors()))))


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it; it keeps a traceback out of the log


async def _late(request: Request, error: Exception) -> Response:
    assert isinstance(error, TaskTimeout)  # noqa: S101
    what = "in parts" if error.started else "when less is going on"
    body = problem(error) | {
        "detail": f"The text was not searched within {error.timeout:g} s.",
        "hint": f"Send it again {what}; the server gives a text DOMAINS_TASK_TIMEOUT seconds and more for its size.",
    }
    return JSONResponse(body, error.status_hint, media_type=MEDIA_TYPE)


def _respond(error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    body = {"type": "about:blank", "title": status.phrase, "status": status.value}
    body |= {"detail": error.detail, **getattr(error, "members", {})}
    return JSONResponse(body, status, error.headers, media_type=MEDIA_TYPE)


def _expected_json(detail: str) -> Problem:
    hint = (
        'Send {"data": "<text>"} as UTF-8 with the header Content-Type: application/json; '
        "plain text and files go to /upload."
    )
    return Problem(422, detail, hint, expected={"data": "see www.example.com"})


def _explain(error: Mapping[str, Any]) -> str:
    # Never show `input`: it may be megabytes, or text that cannot be encoded.
    *_, name = error["loc"]
    where = "The body" if name == "body" else f"`{name}`"
    message = MESSAGES.get(error["type"], "{where}: {message}.")
    reason = error.get("ctx", {}).get("error")
    return message.format(where=where, message=error["msg"], error=reason, position=name)


def _why_unreadable(cause: BaseException | None) -> str:
    match cause:
        case RecursionError():
            return "The JSON is nested too deeply."
        case UnicodeDecodeError():
            return f"The body is not valid {cause.encoding} at byte {cause.start}."
        case _:
            return "The body could not be read as JSON."
