"""The HTTP interface of jobs: ``app.include_router(job_router(jobs), prefix="/jobs")``.

Any server process that shares the store answers for any job.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

try:
    from fastapi import APIRouter, Header, Query, Request, Response
    from fastapi.responses import JSONResponse, StreamingResponse
    from fastapi.routing import APIRoute
except ImportError as _error:  # pragma: no cover - needs an environment without FastAPI
    raise ImportError("job_router needs FastAPI: pip install 'lifepool[jobs]'") from _error

from lifepool.errors import PoolError
from lifepool.integrations.problems import MEDIA_TYPE, problem
from lifepool.jobs.errors import JobNotFound, WrongJobState
from lifepool.jobs.events import stream
from lifepool.jobs.records import Job, JobState
from lifepool.jobs.result_answers import answer, content_of, etag_of, matches
from lifepool.jobs.views import MAX_INLINE, JobPageView, JobView, problem_of, view_of

if TYPE_CHECKING:
    from lifepool.jobs.jobs import Jobs

#: Tells the routers of an app apart, so that each can be found by the name of its route.
_numbers = itertools.count(1)

#: Says whether whoever asks may see and change a job.
Access = Callable[[Request, Job], bool | Awaitable[bool]]

#: Seconds after which a client should ask again for a job that has not ended.
RETRY_AFTER_S = 1

_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemView"}}}}
_Responses = dict[int | str, dict[str, Any]]
_NOT_NOW: _Responses = {503: {"description": "The job store can't be used now.", **_PROBLEM}}
_OF_LIST: _Responses = {**_NOT_NOW, 400: {"description": "The cursor is none.", **_PROBLEM}}
_ALWAYS: _Responses = {404: {"description": "There is no such job.", **_PROBLEM}, **_NOT_NOW}
_WITH_CONFLICT: _Responses = {**_ALWAYS, 409: {"description": "The job's state forbids it.", **_PROBLEM}}
_OF_RESULT: _Responses = {
    **_WITH_CONFLICT,
    200: {"description": "The result: JSON, or bytes as they are."},
    206: {"description": "The part that was asked for."},
    304: {"description": "The client has it."},
    416: {"description": "It has no such part.", **_PROBLEM},
}
_OF_EVENTS: _Responses = {
    **_ALWAYS,
    200: {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "It has ended, and the client has seen that."},
}


def job_router(jobs: Jobs, *, access: Access | None = None, details: bool = False) -> APIRouter:
    """Make the routes for looking at jobs, cancelling them and fetching their results.

    Args:
        jobs: Whose.
        access: Called with the request and a job: whether whoever asks may see and change it. Others are answered 404.
            None: everybody who reaches the routes may see and change every job.
        details: Whether clients see the text of the exception that a job has raised.
    """
    return _Routes(jobs, access, details).router


class _ProblemRoute(APIRoute):
    """Answers errors as problem+json, also in an app that has not installed the pool."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except PoolError as error:
                return _answer(error)

        return answered


def _answer(error: PoolError) -> JSONResponse:
    body = problem(error)
    if error.status_hint < 500:  # what the client itself has asked for: it may know why not
        body["detail"] = str(error.args[0])
    headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status_hint == 503 else {}
    return JSONResponse(body, error.status_hint, headers, MEDIA_TYPE)


class _Routes:
    def __init__(self, jobs: Jobs, access: Access | None, details: bool) -> None:
        self._jobs = jobs
        self._access = access
        self._details = details
        self.router = APIRouter(tags=["jobs"], route_class=_ProblemRoute)
        self._add("GET", "", self.list, _OF_LIST, response_model=JobPageView)
        number = next(_numbers)
        route = "get_job" if number == 1 else f"get_job_{number}"
        self._add("GET", "/{job_id}", self.get, _ALWAYS, response_model=JobView, name=route)
        jobs.locate_with(route)
        self._add("DELETE", "/{job_id}", self.cancel, _ALWAYS, response_model=JobView)
        self._add("POST", "/{job_id}/retry", self.retry, _WITH_CONFLICT, response_model=JobView, status_code=202)
        self._add("GET", "/{job_id}/result", self.result, _OF_RESULT, response_class=Response)
        self._add("GET", "/{job_id}/events", self.events, _OF_EVENTS, response_class=Response)

    def _add(self, method: str, path: str, endpoint: Callable[..., Any], responses: _Responses, **options: Any) -> None:
        self.router.add_api_route(path, endpoint, methods=[method], responses=responses, **options)

    async def list(
        self,
        request: Request,
        state: Annotated[list[JobState] | None, Query(description="In one of these states.")] = None,
        name: Annotated[str | None, Query(description="Of this name.")] = None,
        tag: Annotated[str | None, Query(description="With this tag.")] = None,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Any:
        """List jobs, the newest first. A page may be shorter than asked for; the last one has no `next`."""
        try:
            page = await self._jobs.list(state=state, name=name, tag=tag, cursor=cursor, limit=limit)
        except ValueError as error:
            body = {"type": "urn:lifepool:bad-cursor", "title": "Bad Request", "status": 400, "detail": str(error)}
            return JSONResponse(body, 400, media_type=MEDIA_TYPE)
        seen = [job for job in page.jobs if await self._may(request, job)]
        return JobPageView(jobs=[view_of(job, details=self._details) for job in seen], next=page.next)

    async def get(self, request: Request, response: Response, job_id: str) -> Any:
        """Look at a job: its state, its progress, and its result if that is small."""
        job = await self._seen(request, job_id)
        if job.state is JobState.SUCCEEDED and (job.result_size or 0) <= MAX_INLINE:
            job = await self._jobs.get(job_id)
        if not job.state.is_final:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return view_of(job, details=self._details)

    async def cancel(self, request: Request, response: Response, job_id: str) -> Any:
        """Cancel a job: one that waits ends at once (200), one that runs is asked to stop (202)."""
        await self._seen(request, job_id)
        job = await self._jobs.cancel(job_id)
        response.status_code = 202 if not job.state.is_final else 200
        return view_of(job, details=self._details)

    async def retry(self, request: Request, job_id: str) -> Any:
        """Queue a job again that has failed, was lost or cancelled."""
        await self._seen(request, job_id)
        return view_of(await self._jobs.retry(job_id), details=self._details)

    async def result(
        self,
        request: Request,
        job_id: str,
        if_none_match: Annotated[str | None, Header()] = None,
        if_range: Annotated[str | None, Header()] = None,
        byte_range: Annotated[str | None, Header(alias="Range")] = None,
    ) -> Response:
        """Fetch the result: bytes as they are, everything else as JSON. Parts of it can be asked for with `Range`."""
        job = await self._seen(request, job_id)
        if job.state is not JobState.SUCCEEDED:
            return self._no_result(job)
        etag = etag_of(job)
        if if_none_match is not None and matches(if_none_match, etag):
            return Response(status_code=304, headers={"ETag": etag})
        content = await content_of(self._jobs, job)
        return answer(content, etag, byte_range if if_range in (None, etag) else None)

    async def events(
        self, request: Request, job_id: str, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        """Hear of a job's state and progress as they change (server-sent events); the stream ends with the job."""
        job = await self._seen(request, job_id)
        after = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else 0
        if job.state.is_final and after >= job.version:
            return Response(status_code=204)  # by the standard, a client does not come again then
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        events = stream(self._jobs, job_id, after, details=self._details)
        return StreamingResponse(events, headers=headers, media_type="text/event-stream")

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _seen(self, request: Request, job_id: str) -> Job:
        """Return a job; to strangers it is not there."""
        job = await self._jobs.look(job_id)
        if not await self._may(request, job):
            raise JobNotFound(job_id)
        return job

    async def _may(self, request: Request, job: Job) -> bool:
        if self._access is None:
            return True
        answer = self._access(request, job)
        return bool(await answer if inspect.isawaitable(answer) else answer)

    def _no_result(self, job: Job) -> Response:
        found = problem_of(job, details=self._details)
        if found is not None:
            return JSONResponse(found.model_dump(), 409, media_type=MEDIA_TYPE)
        response = _answer(WrongJobState(job.id, job.state, "it has no result yet"))
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response
