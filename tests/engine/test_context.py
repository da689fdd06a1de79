"""What goes along with a task: context variables by name, and the luggage of hooks."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool, TaskNotPicklable
from lifepool.hooks import Hook
from tests.engine import context_tasks as tasks

if TYPE_CHECKING:
    from lifepool.hooks import Luggage, TaskRecord


@pytest.mark.parametrize("backend", ["local", "inline", "executor"])
async def test_named_variables_have_their_value_in_the_worker(backend: str) -> None:
    tasks.user.set("ada")
    async with Pool(
        max_workers=1, backend=backend, carry_context=[tasks.user, "tests.engine.context_tasks:language"]
    ) as pool:
        assert await pool.run(tasks.who, "hello") == ("hello", "ada", "en")
        tasks.language.set("fr")
        assert await pool.run(tasks.who, "salut") == ("salut", "ada", "fr")


async def test_a_task_leaves_nothing_behind_in_the_context_of_the_next() -> None:
    async with Pool(max_workers=1, carry_context=[tasks.language]) as pool:
        tasks.language.set("fr")
        await pool.run(tasks.leave_a_trace)
        assert await pool.run(tasks.who, "salut") == ("salut", "nobody", "fr")


async def test_the_luggage_of_hooks_is_unpacked_beside_it() -> None:
    class Porter(Hook):
        def luggage(self, task: TaskRecord) -> Luggage | None:
            return tasks.Suitcase("grace") if task.name == "who" else None

    tasks.language.set("fr")
    async with Pool(max_workers=1, carry_context=[tasks.language]) as pool:
        pool.add_hook(Porter())
        assert await pool.run(tasks.who, "salut") == ("salut", "grace", "fr")


async def test_a_value_that_can_not_be_pickled_is_named_and_arguments_still_are() -> None:
    tasks.language.set(threading.Lock())
    async with Pool(max_workers=1, carry_context=[tasks.language]) as pool:
        with pytest.raises(TaskNotPicklable, match=r"context\[0\]"):
            await pool.run(tasks.who, "hello")
        with pytest.raises(TaskNotPicklable, match=r"args\[0\]"):
            await pool.run(tasks.who, threading.Lock())


async def test_a_variable_that_no_worker_could_find_ends_the_start_and_says_so() -> None:
    local: ContextVar[str] = ContextVar("local")
    with pytest.raises(ValueError, match=r"not a global of any module.*package\.module:variable"):
        await Pool(max_workers=1, carry_context=[local]).start()


async def test_a_name_that_is_no_variable_ends_the_start() -> None:
    pool = Pool(max_workers=1, carry_context=["tests.engine.context_tasks:not_a_variable"])
    with pytest.raises(TypeError, match="is a str, not a ContextVar"):
        await pool.start()
