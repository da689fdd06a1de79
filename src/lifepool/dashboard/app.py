"""``dashboard(pool)``: the page as an ASGI app, to be mounted anywhere in any ASGI framework.

All addresses in the page are relative, so it does not matter where it is mounted or what a proxy does to the path.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from lifepool.dashboard import responses as answers
from lifepool.dashboard.access import AccessCallback, Hosts, access_of, foreign_reader, why_not_meant
from lifepool.dashboard.actions import Actions
from lifepool.dashboard.document import document, task_details
from lifepool.dashboard.jobs import ACTIONS as JOB_ACTIONS
from lifepool.dashboard.jobs import JobsView
from lifepool.dashboard.recorder import ArgumentRecorder, Recorder
from lifepool.dashboard.static_files import files

if TYPE_CHECKING:
    from lifepool.dashboard.access import Access
    from lifepool.dashboard.responses import Answer
    from lifepool.pool import Pool

logger: logging.Logger = logging.getLogger("lifepool")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def dashboard(
    pool: Pool,
    *,
    access: AccessCallback | None = None,
    allowed_hosts: Iterable[str] = (),
    show_arguments: bool = False,
    show_tracebacks: bool = True,
) -> ASGIApp:
    """Make the live page of a pool, an app to mount under an address of yours.

    It watches the pool from now on, with a hook. Whoever can reach the address can read it; nobody can act, unless
    ``access`` says so. Put it behind what protects the rest of your operations: it names your functions and shows
    what their errors say. If jobs run in the pool (``lifepool.jobs``) it shows them too, without more.

    Args:
        pool: The pool to show.
        access: Called with the request's ASGI scope, may be a coroutine function; returns ``"none"``, ``"read"`` or
            ``"act"``: cancel tasks, replace workers, drain the pool, cancel and retry jobs. What it raises, the request
            raises. None: everybody may read, nobody act.
        allowed_hosts: Names under which the page may be asked for, besides ``localhost``, addresses in digits, what the
            server is bound to and the machine's name: ``["pool.example.com"]`` behind a proxy; ``"*.example.com"`` for
            all names below one, ``"*"`` for any. Others are answered 421, so that no other site can read the page
            through a name of its own that it lets lead here.
        show_arguments: Show the arguments (shortened) and the ``fair_key`` of tasks in their details, and the tags of
            jobs.
        show_tracebacks: Show messages and tracebacks of errors. Both can hold what the task worked on.

    Returns:
        An ASGI app. It needs no lifespan of its own.
    """
    kind = ArgumentRecorder if show_arguments else Recorder
    recorder = kind(texts=show_tracebacks, private=not show_arguments)
    pool.add_hook(recorder)
    return Dashboard(pool, recorder, access, Hosts(allowed_hosts))


class Dashboard:
    """The ASGI app: answer each request with a file, data, or the result of an action.

    Args:
        pool: What is shown.
        recorder: The hook that watches it.
        access: Who may do what.
        hosts: Under which names it may be asked for.
    """

    def __init__(
        self, pool: Pool, recorder: Recorder, access: AccessCallback | None = None, hosts: Hosts | None = None
    ) -> None:
        self._hosts = hosts or Hosts()
        self._pool = pool
        self._recorder = recorder
        self._access = access
        self._actions = Actions(pool)
        self._jobs = JobsView(pool, texts=recorder.texts, private=recorder.private)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] != "http":
            raise NotImplementedError(f"the live page has no {scope['type']}")
        else:
            answer = await self._answer(scope)
            await answer.send(send, head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope) -> Answer:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if (reason := self._hosts.why_not(scope, headers)) is not None:
            return answers.of_problem(421, reason)
        allowed = await access_of(self._access, scope)
        if allowed == "none":
            return answers.of_problem(403, "you may not see this page")
        path, method = route_path(scope), scope["method"]
        if path.startswith("/actions/"):
            return await self._act(path.removeprefix("/actions/"), method, headers, allowed)
        if method not in ("GET", "HEAD"):
            return answers.of_problem(405, f"{method} makes no sense here", allow="GET, HEAD")
        if path == "":
            return answers.of_redirect(f"{scope['path'].rpartition('/')[2]}/")
        name = "index.html" if path == "/" else path.removeprefix("/static/")
        file = files().get(name)
        if file is not None and path != f"/{name}":
            return answers.of_file(file, headers.get("if-none-match", ""))
        if foreign_reader(headers):
            return answers.of_problem(403, "another site may not read this")
        if path.startswith("/jobs"):
            return await self._job_data(path, may_act=allowed == "act")
        return self._data(path, scope.get("query_string", b"").decode("latin-1"), allowed)

    def _data(self, path: str, query: str, allowed: Access) -> Answer:
        folder, _, number = path.removesuffix(".json").rpartition("/")
        if path == "/state.json":
            since = parse_qs(query).get("since", [""])[0]
            has_jobs = self._jobs.is_there
            actions = (*self._actions.names(), *(JOB_ACTIONS if has_jobs else ())) if allowed == "act" else ()
            state = document(self._pool, self._recorder, since=since, actions=actions)
            return answers.of_json({**state, "jobs": has_jobs})
        if folder == "/tasks" and is_number(number):
            details = task_details(self._pool, self._recorder, int(number))
            found = "nothing is known of this task: of those that are done, only a sample is remembered"
            return answers.of_problem(404, found) if details is None else answers.of_json(details)
        if folder == "/failures" and is_number(number):
            text = self._recorder.failures.traceback(int(number))
            if text is None:
                return answers.of_problem(404, "there is no traceback, or not any more")
            return answers.of_json({"traceback": text})
        return answers.of_problem(404, "there is nothing here")

    async def _job_data(self, path: str, *, may_act: bool) -> Answer:
        if path == "/jobs.json":
            return await self._jobs.document(may_act=may_act)
        folder, _, group = path.removesuffix(".json").rpartition("/")
        if folder == "/jobs/failures":
            return await self._jobs.traceback(group)
        return answers.of_problem(404, "there is nothing here")

    async def _act(self, path: str, method: str, headers: dict[str, str], allowed: Access) -> Answer:
        action, _, subject = path.partition("/")
        if action not in (*self._actions.names(), *JOB_ACTIONS):
            return answers.of_problem(404, "there is no such action")
        if method != "POST":
            return answers.of_problem(405, "an action is a POST", allow="POST")
        if allowed != "act":
            return answers.of_problem(403, "you may look, but not act: see access= of lifepool.dashboard.dashboard")
        reason = why_not_meant(headers, action)
        if reason is not None:
            return answers.of_problem(403, reason)
        if action in JOB_ACTIONS:
            return await self._jobs.perform(action, subject)
        if (action == "cancel") != is_number(subject):
            return answers.of_problem(404, "there is no such task" if action == "cancel" else "there is nothing here")
        logger.info("the live page of pool %r was asked to %s %s", self._pool.config.name, action, subject)
        return self._actions.perform(action, int(subject or 0))


def is_number(text: str) -> bool:
    """Tell whether a text is the number of a task or a failure."""
    return text.isascii() and text.isdigit() and len(text) < 20


def route_path(scope: Scope) -> str:
    """Return the path below the mount point: ``/``, ``/state.json``; empty without the slash at the end.

    Frameworks and proxies disagree on whether ``path`` holds all of ``root_path``, its last part, or nothing of it.
    """
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "").rstrip("/")
    while prefix:
        if path == prefix or path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
        slash = prefix.find("/", 1)
        prefix = prefix[slash:] if slash > 0 else ""
    return path
