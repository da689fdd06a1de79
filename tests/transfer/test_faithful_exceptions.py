"""Each family of exceptions, a row of a table: what comes home is what was raised."""

from __future__ import annotations

import builtins
import decimal
import errno
import json
import re
import socket
import ssl
import struct
import subprocess
import zlib
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import httpx
import pydantic
import pytest
from fastapi import HTTPException

from lifepool import PoolClosed, QueueFull, WorkerStartError
from lifepool._transfer.exceptions import MAX_ERROR_BYTES, RemoteTraceback, decode_error, encode_error
from tests.transfer.faithful import assert_same, carried

SYNTAX = ("invalid syntax", ("app.py", 3, 5, "x = = 1\n", 3, 6))

#: One of each built-in class that keeps more than its args; the others are made with a text.
BUILT_IN: dict[str, BaseException] = {
    "OSError": OSError(errno.EIO, "broken", "disk"),
    "BlockingIOError": BlockingIOError(errno.EAGAIN, "not now", 7),
    "BaseExceptionGroup": BaseExceptionGroup("all", [KeyError("x"), GeneratorExit()]),
    "ExceptionGroup": ExceptionGroup("some", [ValueError(1), ExceptionGroup("inner", [OSError(2, "no", "f")])]),
    "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "invalid start byte"),
    "UnicodeEncodeError": UnicodeEncodeError("ascii", "a\xe9", 1, 2, "not in range"),
    "UnicodeTranslateError": UnicodeTranslateError("a\xe9", 1, 2, "no mapping"),
    "ImportError": ImportError("no name", name="numpy", path="/lib"),
    "ModuleNotFoundError": ModuleNotFoundError("no module", name="numpy"),
    "NameError": NameError("not defined", name="nme"),
    "UnboundLocalError": UnboundLocalError("not bound", name="local"),
    "AttributeError": AttributeError("no attribute", name="nme", obj=[1, 2]),
}

#: What a coroutine can't raise: tested as the cause of a TaskError.
UNBEARABLE = {"SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "StopAsyncIteration"}

BUILT_IN_CLASSES = sorted(
    {
        cls
        for cls in vars(builtins).values()
        if isinstance(cls, type) and issubclass(cls, BaseException) and cls.__name__ not in UNBEARABLE
    },
    key=lambda cls: cls.__name__,
)


def example_of(cls: type[BaseException]) -> BaseException:
    if issubclass(cls, SyntaxError):  # Python has a new one now and then
        return cls(*SYNTAX)
    return BUILT_IN.get(cls.__name__) or cls("a text", 2)


@pytest.mark.parametrize("cls", BUILT_IN_CLASSES, ids=lambda cls: cls.__name__)
def test_every_built_in_class(cls: type[BaseException]) -> None:
    error = example_of(cls)
    assert type(error) is cls
    error.add_note("a note")
    assert_same(carried(error), error)


class OneText(Exception):
    """Formats its message: rebuilt by its constructor it would do so twice."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no such thing: {name}")
        self.name = name


class TwoArguments(Exception):
    """As botocore's ClientError."""

    def __init__(self, error_response: dict[str, Any], operation_name: str) -> None:
        super().__init__(f"An error occurred when calling {operation_name}: {error_response['Error']}")
        self.response = error_response
        self.operation_name = operation_name


class KeywordOnly(Exception):
    def __init__(self, *, code: int, detail: str = "none") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class OwnOSError(OSError):
    """Its constructor says nothing to OSError's."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.ENOENT, "gone", path)
        self.path = path


class TextOSError(OSError):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"can't reach {host}:{port}")
        self.host, self.port = host, port


class SilentOSError(OSError):
    def __init__(self, code: int) -> None:
        self.errno = code
        self.strerror = "silent"
        self.filename = "somewhere"


class OwnTimeout(TextOSError, TimeoutError):
    pass


class OwnDecodeError(UnicodeDecodeError):
    def __init__(self, data: bytes) -> None:
        super().__init__("utf-8", data, 0, 1, "bad")
        self.data = data


class OwnKeyError(KeyError):
    def __init__(self, key: str) -> None:
        super().__init__(f"key {key}")


class OwnSyntaxError(SyntaxError):
    def __init__(self, line: int) -> None:
        super().__init__("bad template", ("page.html", line, 1, "{{", line, 2))


class OwnGroup(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception]) -> OwnGroup:
        made = super().__new__(cls, "of its own", errors)
        made.count = len(errors)
        return made

    count: int


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class SlottedChild(Slotted):
    __slots__ = ("code",)  # hides the one of its base


@dataclass
class Plain(Exception):
    code: int
    detail: str = "none"


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


@dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int


class Request(OSError):
    """As in requests."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.response = kwargs.pop("response", None)
        self.request = kwargs.pop("request", None)
        super().__init__(*args, **kwargs)


class OwnText(Exception):
    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class OwnReduce(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a + b)
        self.b = b

    def __reduce__(self) -> tuple[object, ...]:
        return OwnReduce, (self.args[0] - self.b, self.b)


class Nested(Exception):
    def __init__(self, *, original: Exception) -> None:
        super().__init__("wrapped")
        self.original = original


def validation_error() -> Exception:
    class Model(pydantic.BaseModel):
        number: int

    try:
        Model(number="x")  # type: ignore[arg-type]
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


def http_error() -> Exception:
    request = httpx.Request("GET", "http://server/")
    return httpx.HTTPStatusError("404", request=request, response=httpx.Response(404, request=request))


def code_error() -> Exception:
    try:
        json.loads("{")
    except json.JSONDecodeError as error:
        return error
    raise AssertionError


LIBRARY = [
    OneText("x"),
    TwoArguments({"Error": "no"}, "GetObject"),
    KeywordOnly(code=3),
    OwnOSError("/a"),
    TextOSError("h", 1),
    SilentOSError(5),
    OwnTimeout("h", 1),
    OwnDecodeError(b"\xff"),
    OwnKeyError("k"),
    OwnSyntaxError(3),
    OwnGroup([ValueError(1), OneText("y")]),
    ExceptionGroup("of such", [OneText("x"), KeywordOnly(code=1), ExceptionGroup("deeper", [TextOSError("h", 2)])]),
    Slotted(3),
    Slotted(None),  # type: ignore[arg-type]
    SlottedChild(4),
    Plain(1, "two"),
    Frozen(3),
    FrozenSlots(3),
    Request("no route", response="r", request="q"),
    OwnText(3),
    OwnReduce(1, 2),
    QueueFull("full", retry_after=1.5),
    PoolClosed(),
    WorkerStartError("why", hint="do"),
    FileNotFoundError(2, "no", "a", None, "b"),
    socket.gaierror(-2, "unknown name"),
    ssl.SSLError(1, "[SSL] bad"),
    code_error(),
    re.error("bad", "a(", 2),
    subprocess.CalledProcessError(3, ["ls", "x"], b"out", b"err"),
    subprocess.CalledProcessError(returncode=3, cmd="ls"),
    subprocess.TimeoutExpired("ls", 2.0, b"out"),
    zlib.error("bad"),
    struct.error("bad"),
    decimal.InvalidOperation([decimal.ConversionSyntax]),
    FrozenInstanceError("no"),
    HTTPException(404, "nowhere", headers={"X": "y"}),
    httpx.ConnectError("refused"),
]


@pytest.mark.parametrize("error", LIBRARY, ids=lambda error: type(error).__name__)
def test_classes_of_libraries_and_of_users(error: Exception) -> None:
    assert_same(carried(error), error)


def test_what_http_clients_raise() -> None:
    home = carried(http_error())
    assert isinstance(home, httpx.HTTPStatusError)
    assert home.response.status_code == 404
    assert str(home.request.url) == "http://server/"


def test_an_exception_that_only_its_class_can_make_is_told_or_carried() -> None:
    error = validation_error()
    home = carried(error)
    assert "number" in str(home)


def test_an_exception_within_one_is_carried_as_faithfully() -> None:
    home: Any = carried(Nested(original=OneText("x")))
    assert type(home) is Nested
    assert_same(home.original, OneText("x"), outermost=False)


def test_a_member_of_a_group_that_can_not_be_carried_is_told_in_its_place() -> None:
    class Local(Exception):
        pass

    home: Any = carried(ExceptionGroup("two", [Local("here"), OneText("x")]))
    assert type(home) is ExceptionGroup
    assert "Local: here" in str(home.exceptions[0])
    assert type(home.exceptions[1]) is OneText


def test_an_exception_that_refers_to_itself_comes_home() -> None:
    error: Any = KeywordOnly(code=1)
    error.me = error.again = error
    error.args = ("text", error)
    home: Any = carried(error)
    assert type(home) is KeywordOnly
    assert home.args[0] == "text"
    assert home.code == 1


def test_many_exceptions_within_each_other_cost_a_bounded_number_of_pickles() -> None:
    error: Any = KeywordOnly(code=0)
    for code in range(40):
        outer: Any = KeywordOnly(code=code)
        outer.one = outer.other = error
        error = outer
    assert type(carried(error)) is KeywordOnly  # 2**40 pickles would not end


class Large(Exception):
    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, bytes(size))
        self.more = bytes(size)
        self.code = 3


def test_of_an_exception_that_is_too_large_the_parts_that_fit_are_carried() -> None:
    home: Any = decode_error(encode_error(Large("text", 100_000), limit=10_000))
    assert type(home) is Large
    assert home.args[0] == "text"
    assert len(home.args[1]) < 10_000
    assert home.code == 3
    assert not hasattr(home, "more")
    assert len(encode_error(Large("text", MAX_ERROR_BYTES + 1))) < MAX_ERROR_BYTES


def test_a_cause_travels_as_text() -> None:
    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise OneText("second") from first

    try:
        fail()
    except OneText as error:
        home = decode_error(encode_error(error))
    assert isinstance(home.__cause__, RemoteTraceback)
    assert "KeyError: 'first'" in str(home.__cause__)


def test_a_traceback_that_has_come_a_long_way_already_is_kept_in_the_story() -> None:
    once = carried(OneText("x"))
    twice = carried(once)
    assert_same(twice, OneText("x"))
    assert "Traceback" in str(twice.__cause__)
    assert str(twice.__cause__).count('"""') >= 2


def test_what_is_lost_on_the_way_is_named_in_the_story() -> None:
    error = KeywordOnly(code=1)
    error.args = ("text", lambda: None)
    error.session = lambda: None  # type: ignore[attr-defined]
    story = str(carried(error).__cause__)
    assert "lost on the way" in story
    assert "args[1], .session" in story
    assert "lost on the way" not in str(carried(OneText("x")).__cause__)
