"""What `pool.lifespan` takes for an app, what for a lifespan function, and what it refuses."""

from __future__ import annotations

import functools
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Router

from lifepool import Pool
from lifepool._pool.lifespans import own_lifespan
from tests.integrations.clients import TestClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from lifepool.integrations.asgi import Receive, Scope, Send

STATE = {"database": "db"}


@asynccontextmanager
async def plain(app: object) -> AsyncIterator[dict[str, str]]:
    yield STATE


@asynccontextmanager
async def with_default(app: object, db: str | None = None) -> AsyncIterator[dict[str, str]]:
    yield STATE


@asynccontextmanager
async def with_two_defaults(app: object, db: str | None = None, cache: str | None = None) -> AsyncIterator[Any]:
    yield STATE


@asynccontextmanager
async def with_keywords(app: object, *, db: str = "db", **more: Any) -> AsyncIterator[dict[str, str]]:
    yield STATE


@asynccontextmanager
async def with_anything(*args: Any, **keywords: Any) -> AsyncIterator[dict[str, str]]:
    yield STATE


@asynccontextmanager
async def needs_two(app: object, db: str) -> AsyncIterator[dict[str, str]]:
    yield STATE


async def bare_generator(app: object) -> AsyncIterator[dict[str, str]]:
    yield STATE


def bare_plain_generator(app: object) -> Iterator[dict[str, str]]:
    yield STATE


def returns_one(app: object) -> Any:
    return plain(app)


def undecorated_wrapper(*args: Any) -> Any:
    return plain(*args)


class OfClass:
    """A class whose objects are the context managers."""

    def __init__(self, app: object) -> None:
        self.app = app

    async def __aenter__(self) -> dict[str, str]:
        return STATE

    async def __aexit__(self, *error: object) -> None:
        """Nothing to do."""


class Callable1:
    def __call__(self, app: object) -> AbstractAsyncContextManager[dict[str, str]]:
        return plain(app)


class Decorated1:
    @asynccontextmanager
    async def __call__(self, app: object, db: str = "") -> AsyncIterator[dict[str, str]]:
        yield STATE


class Generator1:
    async def __call__(self, app: object) -> AsyncIterator[dict[str, str]]:
        yield STATE


class Methods:
    @asynccontextmanager
    async def method(self, app: object, db: str = "") -> AsyncIterator[dict[str, str]]:
        yield STATE

    @staticmethod
    @asynccontextmanager
    async def static(app: object) -> AsyncIterator[dict[str, str]]:
        yield STATE

    @classmethod
    @asynccontextmanager
    async def of_class(cls, app: object) -> AsyncIterator[dict[str, str]]:
        yield STATE


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        return function(*args, **keywords)

    return wrapper


LIFESPANS: dict[str, Any] = {
    "function": plain,
    "with a default": with_default,
    "with two defaults, like an app's three parameters": with_two_defaults,
    "with keywords": with_keywords,
    "with anything": with_anything,
    "partial": functools.partial(needs_two, db="db"),
    "partial of a partial": functools.partial(functools.partial(with_two_defaults, db="x"), cache="y"),
    "method": Methods().method,
    "static method": Methods.static,
    "class method": Methods.of_class,
    "callable object": Callable1(),
    "callable object, decorated": Decorated1(),
    "callable object, a generator": Generator1(),
    "class of context managers": OfClass,
    "bare async generator": bare_generator,
    "partial of a bare generator": functools.partial(bare_generator),
    "bare generator": bare_plain_generator,
    "returns one": returns_one,
    "a wrapper that says nothing of its parameters": undecorated_wrapper,
    "decorated with wraps": decorated(with_default),
    "a lambda": lambda app: plain(app),
}


async def app_function(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI app."""


async def app_of_anything(*args: Any) -> None:
    """An ASGI app, or what wraps one."""


class AppObject:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app."""


class AppWithDefaults:
    async def __call__(self, scope: Scope, receive: Any = None, send: Any = None) -> None:
        """An ASGI app, oddly."""


class AppClass:
    """ASGI 2."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        """One connection."""


class Opaque:
    def __call__(self, *args: Any) -> Any:
        """A framework's object that says nothing."""


APPS: dict[str, Any] = {
    "FastAPI": FastAPI(),
    "Starlette": Starlette(),
    "a router": Router(),
    "middleware": GZipMiddleware(Starlette()),
    "a function": app_function,
    "a function of anything": app_of_anything,
    "a partial": functools.partial(app_function),
    "an object": AppObject(),
    "an object with defaults": AppWithDefaults(),
    "a bound method": AppObject().__call__,
    "a class": AppClass,
    "an object that says nothing": Opaque(),
    "nothing": None,
}


@pytest.mark.parametrize("own", LIFESPANS.values(), ids=LIFESPANS)
async def test_whatever_can_be_called_with_the_app_alone_is_a_lifespan(own: Any) -> None:
    pool = Pool(backend="inline")
    async with pool.lifespan(own)("app") as state:
        assert state == {"pool": pool, **STATE}
        assert pool.state.value == "running"
    assert pool.state.value == "closed"


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
async def test_an_app_is_told_by_what_it_is(app: Any) -> None:
    assert own_lifespan(app) is None
    pool = Pool(backend="inline")
    async with pool.lifespan(app) as state:
        assert state == {"pool": pool}


def test_starlette_takes_every_kind_of_it() -> None:
    for own in LIFESPANS.values():
        pool = Pool(backend="inline")
        with TestClient(Starlette(lifespan=pool.lifespan(own))) as client:
            assert client.app_state["database"] == "db"
            assert pool.state.value == "running"


async def coroutine(app: object) -> None:
    """Not even a generator."""


@asynccontextmanager
async def of_nothing() -> AsyncIterator[None]:
    yield


@contextmanager
def synchronous(app: object) -> Iterator[None]:
    yield


@asynccontextmanager
async def yields_an_object(app: object) -> AsyncIterator[Any]:
    yield object()


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (needs_two, r"pool.lifespan\(needs_two\): it is no app, and can't be called with the app alone"),
        (of_nothing, r"pool.lifespan\(of_nothing\): it is no app, and can't be called"),
        (coroutine, r"pool.lifespan\(coroutine\): it is a coroutine function.* with @asynccontextmanager"),
        (functools.partial(coroutine), "is a coroutine function"),
        (int.__add__, "is no app"),
    ],
)
def test_what_is_neither_is_refused_where_it_is_written(own: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Pool(backend="inline").lifespan(own)


async def test_a_context_manager_instead_of_its_function_is_refused() -> None:
    with pytest.raises(TypeError, match="give the function, without calling it"):
        Pool(backend="inline").lifespan(plain("app"))
    with pytest.raises(TypeError, match="give the function, without calling it"):
        Pool(backend="inline").lifespan(OfClass("app"))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (synchronous, r"pool.lifespan\(synchronous\): it returned <contextlib._GeneratorContextManager"),
        (lambda app: None, "returned None, which is no asynchronous context manager"),
        (lambda app: coroutine(app), "returned <coroutine object"),
        (yields_an_object, r"pool.lifespan\(yields_an_object\): it yielded <object object"),
    ],
)
async def test_what_turns_out_to_be_none_is_named_and_the_pool_ends(own: Any, message: str) -> None:
    pool = Pool(backend="inline")
    with pytest.raises(TypeError, match=message):
        async with pool.lifespan(own)("app"):
            pytest.fail("it started")
    assert pool.state.value == "closed"
