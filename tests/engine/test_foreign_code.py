"""What users' code raises in our hands is the error of one task, whatever it is; a Ctrl-C of the user is not."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskError, TaskNotPicklable, constant
from lifepool.backends.local.copy_threads import OFF_LOOP_BYTES
from lifepool.hooks import Hook, TaskRecord
from tests import tasks
from tests.engine.leaving import (
    HOW,
    LeavesElsewhere,
    LeavesWhenPickled,
    PressesCtrlC,
    PressesCtrlCWhenPickled,
    leave,
    leave_for_two,
    leave_in_batch,
    make_leaving,
    make_leaving_when_pickled,
    make_pressing,
    report_leaving,
    report_leaving_when_pickled,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lifepool.progress import MapProgress

every_way = pytest.mark.parametrize("how", HOW)
variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


@asynccontextmanager
async def pool_that_survives(**options: Any) -> AsyncIterator[Pool]:
    async with Pool(max_workers=1, **options) as pool:
        pid = await pool.run(os.getpid)
        yield pool
        assert await pool.run(os.getpid) == pid, "the worker was replaced"


# -- pickling ---------------------------------------------------------------------------------------------------------


async def test_an_argument_that_leaves_while_it_is_pickled_is_refused() -> None:
    async with pool_that_survives() as pool:
        for how in HOW:
            for call in (
                (tasks.echo, LeavesWhenPickled(how)),
                (tasks.echo, [1, {"key": LeavesWhenPickled(how)}]),
                (functools.partial(tasks.echo, LeavesWhenPickled(how)),),
                (tasks.echo, constant(LeavesWhenPickled(how))),
                (tasks.echo, [bytes(OFF_LOOP_BYTES), LeavesWhenPickled(how)]),
            ):
                function: Any = call[0]
                with pytest.raises(TaskNotPicklable) as caught:
                    await pool.run(function, *call[1:])
                assert type(caught.value.__cause__) is type(HOW[how])
                assert type(HOW[how]).__name__ in str(caught.value)


async def test_so_is_what_goes_along() -> None:
    async with pool_that_survives(carry_context=["tests.engine.test_foreign_code:variable"]) as pool:
        for how in HOW:
            variable.set(LeavesWhenPickled(how))
            with pytest.raises(TaskNotPicklable, match="context"):
                await pool.run(tasks.double, 1)
            variable.set(1)


async def test_a_result_that_leaves_while_it_is_pickled_fails_its_task() -> None:
    async with pool_that_survives() as pool:
        for how in HOW:
            with pytest.raises(TaskNotPicklable, match=type(HOW[how]).__name__) as caught:
                await pool.run(make_leaving_when_pickled, how)
            assert caught.value.side == "result"


async def test_so_does_progress() -> None:
    async with pool_that_survives() as pool:
        with pytest.raises(TaskNotPicklable, match="SystemExit"):
            await pool.run(report_leaving_when_pickled, "SystemExit")


class LeavesWhenLookedAt:
    """A glance at its size raises; it can be pickled all the same."""

    @property
    def nbytes(self) -> int:
        leave("SystemExit")

    def __reduce__(self) -> tuple[object, ...]:
        return str, ("plain",)


async def test_a_look_at_the_size_of_an_argument_hurts_nobody() -> None:
    async with pool_that_survives() as pool:
        assert await pool.run(tasks.echo, LeavesWhenLookedAt()) == "plain"


# -- rebuilding -------------------------------------------------------------------------------------------------------


async def test_arguments_that_leave_while_they_are_rebuilt_fail_their_task() -> None:
    async with pool_that_survives() as pool:
        for how in HOW:
            with pytest.raises(TaskNotPicklable, match=f"worker could not rebuild it: {type(HOW[how]).__name__}"):
                await pool.run(tasks.echo, LeavesElsewhere(how))


@pytest.mark.parametrize("size", [0, 100_000, 2 * OFF_LOOP_BYTES])
async def test_results_that_leave_while_they_are_rebuilt_fail_their_task(size: int) -> None:
    async with pool_that_survives() as pool:
        for how in HOW:
            with pytest.raises(TaskNotPicklable, match=f"server could not rebuild it: {type(HOW[how]).__name__}"):
                await pool.run(make_leaving, how, size)


async def test_progress_that_leaves_while_it_is_rebuilt_is_not_told() -> None:
    async with pool_that_survives() as pool:
        for how in HOW:
            handle = pool.submit(report_leaving, how)
            assert await handle == "done"


# -- raising ----------------------------------------------------------------------------------------------------------


async def test_what_an_event_loop_can_not_bear_is_the_cause_of_a_task_error() -> None:
    async with pool_that_survives() as pool:
        for how in [how for how in HOW if how != "OwnBase"]:
            with pytest.raises(TaskError, match=f"the task raised {type(HOW[how]).__name__}") as caught:
                await pool.run(leave, how)
            cause = caught.value.__cause__
            assert type(cause) is type(HOW[how])
            assert cause.args == HOW[how].args
            assert "in leave" in str(cause.__cause__)
            current = asyncio.current_task()
            assert current is not None
            assert not current.cancelling()


async def test_another_base_exception_comes_home_as_itself() -> None:
    async with pool_that_survives() as pool:
        with pytest.raises(type(HOW["OwnBase"]), match="own"):
            await pool.run(leave, "OwnBase")


async def test_an_item_that_leaves_fails_alone() -> None:
    async with pool_that_survives() as pool:
        for how in [how for how in HOW if how != "KeyboardInterrupt"]:
            items = [(how, number) for number in range(5)]
            results: list[Any] = await pool.gather(leave_for_two, items, return_exceptions=True, chunksize=5)
            assert [*results[:2], *results[3:]] == [0, 1, 3, 4]
            assert type(HOW[how]).__name__ in f"{type(results[2]).__name__}{results[2]}"
            with pytest.raises(BaseException, match=r"raised|own"):
                await pool.gather(leave_for_two, items)
            batched = pool.batch(leave_in_batch)
            answers: list[Any] = await asyncio.gather(*map(batched, items), return_exceptions=True)
            assert [*answers[:2], *answers[3:]] == [0, 1, 3, 4]
            assert isinstance(answers[2], BaseException)


# -- hooks and options ------------------------------------------------------------------------------------------------


def leaving_hook(method: str, how: str) -> Hook:
    def leave_here(self: Hook, *_: object) -> None:
        leave(how)

    made: Hook = type("LeavingHook", (Hook,), {method: leave_here})()
    return made


@every_way
@pytest.mark.parametrize("method", ["task_called", "propagate_context", "task_submitted", "task_sent", "task_settled"])
async def test_a_hook_that_leaves_hurts_no_task(how: str, method: str) -> None:
    async with Pool(backend="inline") as pool:
        pool.add_hook(leaving_hook(method, how))
        assert await pool.run(tasks.double, 1) == 2
        assert await pool.run(tasks.double, 2) == 4


@every_way
async def test_a_progress_hook_that_leaves_hurts_no_map(how: str) -> None:
    def on_progress(_: MapProgress) -> None:
        leave(how)

    async with Pool(backend="inline") as pool:
        assert await pool.gather(tasks.double, range(3), on_progress=on_progress) == [0, 2, 4]


class Meta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise SystemExit

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise SystemExit

    def __eq__(cls, other: object) -> bool:
        raise SystemExit

    __hash__ = type.__hash__


class Tricky(Exception, metaclass=Meta):
    pass


async def test_classes_to_retry_on_are_not_asked() -> None:
    async with pool_that_survives() as pool:
        with pytest.raises(ValueError, match="no luck"):
            await pool.run(tasks.fail, "no luck", retries=1, retry_on=Tricky)


class Refuses:
    """A key or a number that does nothing of what one does."""

    def __hash__(self) -> int:
        raise SystemExit

    def __eq__(self, other: object) -> bool:
        raise SystemExit

    def __lt__(self, other: object) -> bool:
        raise RuntimeError

    def __str__(self) -> str:
        return "a key"


class RefusingText(str):
    __hash__ = Refuses.__hash__
    __eq__ = Refuses.__eq__
    __slots__ = ()


class RefusingNumber(int):
    __lt__ = __gt__ = __le__ = __ge__ = __eq__ = __add__ = __radd__ = __rsub__ = __sub__ = __neg__ = Refuses.__lt__  # type: ignore[assignment]
    __hash__ = int.__hash__


@pytest.mark.parametrize("key", [Refuses(), RefusingText("me"), 3, b"bytes", ("a", 1)])
async def test_any_key_is_fair_and_none_breaks_the_books(key: Any) -> None:
    async with pool_that_survives() as pool:
        handles = [pool.submit(tasks.double, number, fair_key=key) for number in range(5)]
        assert await asyncio.gather(*handles) == [0, 2, 4, 6, 8]


async def test_numbers_are_plain_before_the_books_see_them() -> None:
    async with pool_that_survives() as pool:
        assert await pool.run(tasks.double, 1, priority=RefusingNumber(3)) == 2
        priorities: list[Any] = [True, 0.5, -2]
        assert await asyncio.gather(*(pool.run(tasks.double, 1, priority=p) for p in priorities)) == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": "high"}, "interpreted as an integer"),
        ({"priority": object()}, "interpreted as an integer"),
        ({"retries": 1.5}, "interpreted as an integer"),
        ({"retries": 1, "retry_on": "ValueError"}, "retry_on='ValueError': expected an exception class"),
        ({"retries": 1, "retry_on": [ValueError]}, r"retry_on=\[.*\]: expected an exception class"),
        ({"retries": 1, "retry_on": (ValueError, 3)}, "expected an exception class"),
    ],
)
async def test_options_of_a_wrong_type_are_refused_and_break_nothing(options: dict[str, Any], message: str) -> None:
    async with pool_that_survives() as pool:
        with pytest.raises(TypeError, match=message):
            pool.submit(tasks.double, 1, **options)


class Named:
    """Refuses to be asked for its name."""

    def __call__(self, number: int) -> int:
        return number

    def __getattr__(self, name: str) -> Any:
        if name in ("func", "__self__"):
            raise RuntimeError("ask somebody else")
        raise AttributeError(name)

    def __hash__(self) -> int:
        raise SystemExit


async def test_a_function_that_refuses_to_tell_its_name_can_be_called() -> None:
    seen: list[str] = []

    class Names(Hook):
        def task_settled(self, task: TaskRecord) -> None:
            seen.append(task.name)

    async with pool_that_survives() as pool:
        pool.add_hook(Names())
        assert await pool.run(Named(), 3, timeout=20) == 3
    assert "Named" in seen


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


def run_plainly(main: Callable[[], Any]) -> None:
    """On a loop that leaves SIGINT to Python, so that a Ctrl-C is a KeyboardInterrupt wherever it strikes."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_a_ctrl_c_while_an_argument_is_pickled_stays_one() -> None:
    async def main() -> None:
        async with Pool(max_workers=1) as pool:
            with pytest.raises(KeyboardInterrupt):
                pool.submit(tasks.echo, PressesCtrlCWhenPickled())
            assert await pool.run(tasks.double, 2) == 4

    run_plainly(main)


def test_a_ctrl_c_while_a_result_is_rebuilt_ends_the_loop_once_the_task_has_its_outcome() -> None:
    loop = asyncio.new_event_loop()
    try:
        pool = Pool(max_workers=1)
        loop.run_until_complete(pool.start())

        async def begin() -> Any:
            return pool.submit(make_pressing)

        handle = loop.run_until_complete(begin())

        async def wait() -> None:
            await asyncio.wait([handle])
            await asyncio.sleep(60)

        waiting = loop.create_task(wait())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(waiting)
        assert isinstance(handle.exception(), TaskNotPicklable)
        waiting.cancel()
        loop.run_until_complete(asyncio.wait([waiting]))
        loop.run_until_complete(pool.aclose())
    finally:
        loop.close()


def test_a_second_ctrl_c_under_asyncio_run_stays_one() -> None:
    async def main() -> None:
        async with Pool(backend="inline") as pool:
            await pool.run(press_twice)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


def press_twice() -> None:
    from signal import SIGINT, raise_signal

    raise_signal(SIGINT)  # asyncio cancels the main task
    raise_signal(SIGINT)  # asyncio raises


def test_a_ctrl_c_in_a_hook_does_not_cost_the_hook() -> None:
    from signal import SIGINT, raise_signal

    seen: list[int] = []

    class Pressed(Hook):
        def task_settled(self, task: TaskRecord) -> None:
            seen.append(task.id)
            if len(seen) == 1:
                raise_signal(SIGINT)

    loop = asyncio.new_event_loop()
    try:
        pool = Pool(backend="inline")
        pool.add_hook(Pressed())
        loop.run_until_complete(pool.start())

        async def run_one() -> None:
            await pool.run(tasks.double, 1)
            await asyncio.sleep(60)

        running = loop.create_task(run_one())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(running)
        running.cancel()
        loop.run_until_complete(asyncio.wait([running]))
        assert loop.run_until_complete(pool.run(tasks.double, 2)) == 4
        assert len(seen) == 2
        loop.run_until_complete(pool.aclose())
    finally:
        loop.close()


__all__ = ["PressesCtrlC"]
