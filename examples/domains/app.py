"""Find every domain name in a text, in parallel, without ever blocking the event loop.

Read this file first. What lifepool takes is `pool = ...`, `install(...)`, and each `await pool...`; for uploads that
outlive their request `jobs = ...` and `await jobs.submit(...)`.
"""

import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, BeforeValidator, Field

from examples.domains import kept, problems, uploads, worker
from examples.domains.body_limit import BodyLimit
from examples.domains.counting import Tally, count_domains
from examples.domains.decoding import Budget
from examples.domains.extract import find_domains
from examples.domains.head_requests import HeadAsGet
from examples.domains.limits import SECONDS_PER_CHARACTER, Limits
from examples.domains.pasted import PastedRoute
from examples.domains.search_job import count_kept
from examples.domains.splitting import LONGEST_PIECE, chunk_count, split_on_whitespace
from lifepool import Pool
from lifepool.dashboard import dashboard
from lifepool.integrations.fastapi import PoolDep, install
from lifepool.integrations.health import health_router
from lifepool.integrations.shedding import LoadShedding
from lifepool.jobs import Job, Jobs, JobView, job_router

LIMITS = Limits.from_environment()
STATIC = Path(__file__).parent / "static"
STREAMED = dict.fromkeys(
    ("/upload", "/jobs"), (LIMITS.max_upload, "Split it, or raise DOMAINS_MAX_UPLOAD on the server.")
)
TOO_LARGE = "Send large texts and files to /upload, which streams them."
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
    """Start the pool and the jobs, in a folder of their own."""
    kept.prepare()
    async with jobs.lifespan(app) as state:
        yield state


def may_see(request: Request, job: Job) -> bool:
    """Let those see a job who know its id, which nobody can guess; nobody gets a list."""
    return request.path_params.get("job_id") == job.id


# One worker per CPU this container may use. Each loads the public suffix list once, at its start.
MODULES = ["examples.domains.counting", "examples.domains.worker"]
pool = Pool(name="domains", preload=MODULES, initializer=worker.begin, timeout=LIMITS.task_timeout)
# Big uploads: they outlive the request and the server. Half of the workers are left to those who wait for an answer.
jobs = Jobs(pool, store=kept.store(), keep=kept.KEEP, max_running=max(1, pool.max_workers // 2))
app = FastAPI(title="Domains", version="1", lifespan=lifespan)
install(app, pool)  # its life, its errors and their documentation: 503 when it is full, 504, ...
app.include_router(health_router(pool))  # /livez, /readyz, /metrics
app.include_router(job_router(jobs, access=may_see), prefix="/jobs")  # /jobs/{id}, its events, its result
app.router.route_class = PastedRoute
problems.install(app)  # the service's own: 413, 415, 422
app.add_middleware(BodyLimit, streamed=STREAMED, hint=TOO_LARGE, limits=lambda: LIMITS, is_ending=lambda: is_ending())
app.add_middleware(HeadAsGet)
app.mount("/pool", dashboard(pool))  # the live page: everybody may look, nobody act
app.mount("/static", StaticFiles(directory=STATIC), name="static")
#: What is served: around the whole app, so that what is refused costs FastAPI nothing.
service = LoadShedding(app, pool=pool, exempt=["/pool/", "/static/", "/jobs/"])


def replace_lone_surrogates(text: Any) -> Any:
    """Replace half characters (`"\\ud800"`), which JSON may have and no encoding can, by U+FFFD."""
    if isinstance(text, str) and not text.isascii():
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Content(BaseModel):
    """The text to search."""

    data: Annotated[str, BeforeValidator(replace_lone_surrogates)] = Field(
        examples=["see www.example.com and bob@mail.example.co.uk"]
    )


class Found(BaseModel):
    """The names in a text, in order of appearance; a name that appears twice is there twice."""

    status: Literal["success"] = "success"
    domains_found: list[str] = Field(examples=[["www.example.com", "mail.example.co.uk"]])
    count: int = Field(examples=[2])
    counts: dict[str, int] | None = Field(
        default=None,
        description="With `?counts=true`: how often each name appears, most frequent first.",
    )


class Counted(BaseModel):
    """The names in an upload and how often each appears, most frequent first."""

    status: Literal["success"] = "success"
    count: int = Field(description="All names, repeated ones and those not in `counts` included.")
    counts: dict[str, int] = Field(examples=[{"www.example.com": 12}])
    truncated: bool = Field(description="There were more different names than `counts` may hold.")


@app.post(
    "/addContent",
    response_model_exclude_none=True,
    responses=problems.documented(408, 413, 415, 422),
)
async def add_content(
    content: Content,
    pool: PoolDep,
    response: Response,
    counts: Annotated[bool, Query(description="Count each name as well.")] = False,
) -> Found:
    """Find the names in a text sent as JSON."""
    started = perf_counter()
    names = await find_all(pool, content.data)
    found = Found(domains_found=names, count=len(names))
    if counts:
        found.counts = dict(Counter(names).most_common())
    response.headers["Server-Timing"] = server_timing(started)
    return found


async def find_all(pool: Pool, text: str) -> list[str]:
    """Find all names: a small text is one task, a large one is cut between names and searched in parallel."""
    count = chunk_count(len(text), pool.max_workers)
    if count == 1:
        return await pool.run(find_domains, text, timeout=timeout_for(len(text)))
    # One deadline for all pieces; if the queue is full they are refused at once, as one.
    pieces = split_on_whitespace(text, count)
    found = await pool.gather(find_domains, pieces, chunksize=1, timeout=timeout_for(len(text)))
    return list(itertools.chain.from_iterable(found))


def timeout_for(length: int) -> float:
    """Return seconds for a text of so many characters: what is taken must be answered."""
    return LIMITS.task_timeout + length * SECONDS_PER_CHARACTER


@app.post(
    "/upload",
    openapi_extra=uploads.OPENAPI,
    responses=problems.documented(408, 413, 415, 422),
)
async def upload(request: Request, pool: PoolDep, response: Response) -> Counted:
    """Count the names in plain text or files, gzip too; the memory it takes does not grow."""
    started = perf_counter()
    tally = Tally(LIMITS.max_names)
    async with aclosing(uploads.chunks(request, LIMITS)) as texts:
        piece = timeout_for(LONGEST_PIECE)
        async for found in pool.map(count_domains, texts, chunksize=1, timeout=piece, on_full="raise"):
            tally.add(found)
    response.headers["Server-Timing"] = server_timing(started)
    return Counted(count=tally.count, counts=tally.most_common(), truncated=tally.truncated)


@app.post(
    "/jobs",
    status_code=202,
    openapi_extra=uploads.OPENAPI,
    responses=problems.documented(408, 413, 415, 422, 507),
)
async def start_job(request: Request, response: Response) -> JobView:
    """Take an upload as a job: ask for it, or listen, at the address in `Location`; its result is that of `/upload`."""
    kind = uploads.kind_of(request)
    uploads.reader_of(*kind, Budget(LIMITS))  # refuse what is no text before it is all here
    name = await kept.keep(request, LIMITS)
    try:
        longest = timeout_for(LIMITS.max_expanded)
        job = await jobs.submit(count_kept, name, *kind, timeout=longest, tags=[name], on_done=kept.forget)
    except BaseException:
        kept.path_of(name).unlink(missing_ok=True)
        raise
    return jobs.accepted(job, response)


def server_timing(started: float) -> str:
    """Return milliseconds since `started`, for the browser's network panel and the page."""
    return f"extract;dur={(perf_counter() - started) * 1000:.2f}"


def is_ending() -> bool:
    """Tell whether the server was asked to stop."""
    return not {"terminating", "draining"}.isdisjoint(pool.readiness().reasons)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer while the event loop lives; it never waits for the pool."""
    return {"status": "ok"}


@app.get("/statistics")
async def statistics(pool: PoolDep) -> Any:
    """Show what the pool is doing now."""
    return pool.statistics()


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Serve the page where a person pastes or drops a text."""
    return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)
