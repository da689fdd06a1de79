"""What a test says about the calls to come, and what it can ask about those that were made."""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass, field
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

from lifepool._core.events import WorkerExited
from lifepool._transfer.grouped import BatchFunction, Chunk
from lifepool._transfer.naming import ManyCalls, name_of
from lifepool._transfer.reference import Reference
from lifepool.errors import QueueFull
from lifepool.testing.clock import FakeClock
from lifepool.testing.pause import Pause

if TYPE_CHECKING:
    from collections.abc import Callable

#: Calls that a failed assertion shows.
_SHOWN = 10


@dataclass(eq=False)
class Call:
    """One call that the app made, whether it was admitted or not.

    A ``map`` or ``gather`` makes one for each item. A batch makes one, with the list of its items.

    Attributes:
        function: The function, as it is without the pool's decorators.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        timeout: Seconds that the task may take, or None.
        priority: As given.
        fair_key: As given.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    priority: int = 0
    fair_key: str | None = None

    def __repr__(self) -> str:
        given = [repr(value) for value in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{name_of(self.function)}({', '.join(given)})"


class Answer:
    """How a call is to end. Made by ``Script.next`` and ``Script.every``; one of its methods says how.

    Attributes:
        function: The function whose calls it is for; None: of any.
        kind: The name of the method that was called; "" before that.
    """

    def __init__(self, function: Callable[..., Any] | None, which: str) -> None:
        self.function: Any | None = None if function is None else plain(function)
        self.kind: str = ""
        self._which = which
        self.replacement: Callable[..., Any] | None = None
        self.exit: WorkerExited | None = None
        self.refusal: QueueFull | None = None
        self.pause: Pause | None = None

    def __repr__(self) -> str:
        name = "" if self.function is None else name_of(self.function)
        return f"script.{self._which}({name}).{self.kind or '...'}"

    def returns(self, value: object) -> None:
        """Give back this value; the function is not called."""
        self._is("returns")
        self.replacement = lambda *args, **kwargs: value

    def raises(self, error: BaseException) -> None:
        """Raise this, as if the function had; it is not called."""
        self._is("raises")

        def fail(*args: object, **kwargs: object) -> None:
            raise error

        self.replacement = fail

    def times_out(self) -> None:
        """Run until the task's timeout has passed, which is at once: the script's clock is moved forward.

        The caller gets ``TaskTimeout``. A call without a timeout gets an ``AssertionError``: nothing would end it.
        """
        self._is("times_out")

    def loses_worker(
        self, *, signal: int | None = SIGKILL, exitcode: int | None = None, oom_suspected: bool = False
    ) -> None:
        """End the worker while it runs the call: ``WorkerLost``, or another attempt if the call has ``retries``.

        Args:
            signal: What killed the worker.
            exitcode: What it exited with; then no signal killed it.
            oom_suspected: Whether the kernel killed it for its memory.
        """
        self._is("loses_worker")
        signal = None if exitcode is not None else signal
        self.exit = WorkerExited(0, exitcode=exitcode, signal=signal, oom_suspected=oom_suspected)

    def is_refused(self, *, retry_after: float = 1.0) -> None:
        """Refuse the call when it is made: ``QueueFull``.

        Args:
            retry_after: Seconds, as in the error.
        """
        self._is("is_refused")
        self.refusal = QueueFull("the queue is full (the test's script says so)", retry_after=retry_after)

    def waits(self) -> Pause:
        """Stay in the worker until the returned pause is released, and run then."""
        self._is("waits")
        self.pause = Pause()
        return self.pause

    def _is(self, kind: str) -> None:
        if self.kind:
            raise RuntimeError(f"{self!r} is said already: a call ends in one way; ask the script for another")
        self.kind = kind


class Script:
    """Say how the next calls end, and see which calls were made. Made by ``scripted(pool)``.

    A call for which nothing was said runs in the test's process, as with ``inline(pool)``. What is said for the next
    call is used once, in the order in which it was said; an attempt that is made again is a next one as well.

    Attributes:
        clock: The pool's clock. ``clock.advance(seconds)`` lets time pass for all tasks.
    """

    def __init__(self) -> None:
        self.clock: FakeClock = FakeClock()
        self._next: deque[Answer] = deque()
        self._every: list[Answer] = []
        self._calls: list[Call] = []

    # -- what is to happen --------------------------------------------------------------------------------------------

    def next(self, function: Callable[..., Any] | None = None) -> Answer:
        """Begin to say how the next call ends: ``script.next(parse).times_out()``.

        Args:
            function: Only a call of this function counts; None: a call of any.
        """
        answer = Answer(function, "next")
        self._next.append(answer)
        return answer

    def every(self, function: Callable[..., Any] | None = None) -> Answer:
        """Begin to say how each call ends, if nothing is said for the next one: ``script.every(parse).returns([])``.

        Args:
            function: Only calls of this function count; None: calls of any.
        """
        answer = Answer(function, "every")
        self._every.insert(0, answer)
        return answer

    def answer_for(self, function: Callable[..., Any], *, refusals: bool) -> Answer | None:
        """Take what was said for a call of this function.

        Args:
            function: Without decorators.
            refusals: Whether the call is being made, and can be refused; else it is in a worker.
        """
        for answer in self._next:
            if answer.kind and answer.function in (None, function):
                if (answer.refusal is not None) is refusals:
                    self._next.remove(answer)
                    return answer
                return None
        for answer in self._every:
            if answer.kind and answer.function in (None, function):
                return answer if (answer.refusal is not None) is refusals else None
        return None

    def check_used(self) -> None:
        """Fail if something was said for a call that was not made.

        Raises:
            AssertionError: If so; it says what.
        """
        if self._next:
            left = ", ".join(map(repr, self._next))
            raise AssertionError(f"never used: {left}. The calls were: {self._shown()}")

    # -- what has happened --------------------------------------------------------------------------------------------

    @property
    def calls(self) -> tuple[Call, ...]:
        """Return all calls, oldest first; those that were refused too."""
        return tuple(self._calls)

    def calls_of(self, function: Callable[..., Any]) -> tuple[Call, ...]:
        """Return the calls of one function, oldest first."""
        wanted = plain(function)
        return tuple(call for call in self._calls if call.function == wanted)

    def assert_called(self, function: Callable[..., Any], *, times: int | None = None) -> None:
        """Fail unless the function was called.

        Args:
            function: The function; with or without the pool's decorator.
            times: How often; None: at least once.

        Raises:
            AssertionError: If it was not; shows the calls that were made.
        """
        found = len(self.calls_of(function))
        if found != times if times is not None else not found:
            expected = "at least once" if times is None else f"{times} times"
            raise AssertionError(f"{name_of(function)} was called {found} times, expected {expected}: {self._shown()}")

    def assert_called_with(self, function: Callable[..., Any], *args: object, **kwargs: object) -> Call:
        """Fail unless the function was called with exactly these arguments, once or more; return the last such call.

        Raises:
            AssertionError: If it was not; shows the calls that were made.
        """
        for call in reversed(self.calls_of(function)):
            if call.args == args and call.kwargs == kwargs:
                return call
        raise AssertionError(f"{Call(plain(function), args, dict(kwargs))} was not called: {self._shown()}")

    def note(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> list[Call]:
        """Take note of a call, or of many in one task; return what was noted."""
        noted = _calls_in(fn, args)
        self._calls += noted
        return noted

    def _shown(self) -> str:
        if not self._calls:
            return "none"
        left_out = f" and {len(self._calls) - _SHOWN} before" if len(self._calls) > _SHOWN else ""
        return ", ".join(map(repr, self._calls[-_SHOWN:])) + left_out


def plain(function: Any) -> Any:
    """Return the user's function inside of whatever it was wrapped in to be sent."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, ManyCalls):
            function = function.function
        elif isinstance(function, Reference):
            function = function.__wrapped__
        elif isinstance(inner := getattr(function, "function", None), Reference):  # of @pool.task and @pool.batch
            function = inner
        else:
            return function


def _calls_in(fn: Any, args: tuple[Any, ...]) -> list[Call]:
    """Return the user's calls that one task stands for."""
    if isinstance(fn, Chunk):
        return [call for item in args[0] for call in _calls_in(fn.function, (item,))]
    if isinstance(fn, BatchFunction):
        return [Call(plain(fn), (list(args[0]),))]
    kwargs: dict[str, Any] = {}
    while isinstance(fn, functools.partial):
        args, kwargs, fn = (*fn.args, *args), {**fn.keywords, **kwargs}, fn.func
    return [Call(plain(fn), tuple(args), kwargs)]
