"""A module as users write it: a pool, what its workers load once, and tasks that use it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from tests import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pool = Pool(max_workers=2)

#: Where resources write down what happens to them; tests point it to a file of their own.
LOG = "LIFEPOOL_TEST_RESOURCES"


def note(line: str) -> None:
    if LOG in os.environ:
        tasks.append_line(os.environ[LOG], f"{line} {os.getpid()}")


class Model:
    def __init__(self) -> None:
        self.lock = threading.Lock()  # it could not be pickled
        self.used = 0


@pool.resource
def model() -> Model:
    """The model."""
    note("loaded model")
    return Model()


@pool.resource
def scorer() -> tuple[Model, str]:
    return model(), "scorer"


@pool.resource
def connection() -> Iterator[list[str]]:
    note("opened connection")
    yield ["connection"]
    note("closed connection")


@pool.resource
def session() -> Iterator[str]:
    yield f"session over {connection()[0]}"
    note("closed session")


@pool.resource
def grumpy() -> Iterator[int]:
    yield 1
    raise OSError("can't close")


@pool.resource
def unending() -> Iterator[int]:
    while True:
        yield 1


@pool.resource
def empty() -> Iterator[int]:
    if LOG == "":
        yield 1


@pool.resource
def circular() -> int:
    return circular() + 1


@pool.resource
def moody() -> str:
    """Fails when it is loaded for the first time."""
    return tasks.fail_unless_tried_before(os.environ[LOG] + ".tried")


@pool.resource
def slow() -> str:
    """Waits at the gate while it is loaded."""
    if Path(os.environ[LOG] + ".tried").exists():
        return "loaded"
    Path(os.environ[LOG] + ".tried").write_text("")
    return str(tasks.hold(os.environ[LOG]))


def use(_: object = None) -> tuple[int, int]:
    """Which process, and for how many tasks its model has been used."""
    model().used += 1
    return os.getpid(), model().used


def hold_and_use(address: str) -> tuple[int, int]:
    tasks.hold(address)
    return use()


def ask(resource: Callable[[], Any]) -> Any:
    """A resource that was passed as an argument."""
    return resource()


def is_the_modules_own(resource: object) -> bool:
    return resource is model


def same_model() -> bool:
    return scorer()[0] is model()


def read_connection() -> str:
    return connection()[0]


def read_session() -> str:
    return session()


def use_grumpy() -> int:
    return grumpy()


def read_moody() -> str:
    return moody()


def fork_and_use() -> tuple[int, int, int]:
    """Load it here, and again in a child; how often it was used there."""
    use()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"%d" % use()[1])
        os._exit(0)
    os.waitpid(child, 0)
    used = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    return (used, *use())


# What a pool of its own needs: declared eager, on a pool that only one test starts.
eager_pool = Pool(max_workers=2)


@eager_pool.resource(eager=True)
def eager() -> str:
    note("loaded eager")
    return "eager"


def initialize(word: str) -> None:
    note(f"initialized {word}")


failing_pool = Pool(max_workers=1)


@failing_pool.resource(eager=True)
def failing() -> str:
    raise LookupError("no model in this directory")
