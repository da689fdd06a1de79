"""Many connections at once: some are taken in each turn of the loop, and the others wait in the kernel."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import uvicorn

from examples.domains.listening import ACCEPTED_AT_ONCE, COLLECTED_AFTER, Server, listen, serve

CLIENTS = 2 * ACCEPTED_AT_ONCE + 50
PATIENCE_S = 20


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody asks for anything")


@contextlib.contextmanager
def connected(listener: socket.socket, count: int) -> Iterator[None]:
    """Connect so many clients; no loop runs meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(listener.getsockname(), timeout=PATIENCE_S))
        yield


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    """Leave the garbage collector as it was: the server sets it for the whole program."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


async def test_a_flood_of_connections_is_taken_in_parts_and_none_is_turned_away() -> None:
    config = uvicorn.Config(nothing, lifespan="off", log_config=None)
    with listen("127.0.0.1", 0) as listener:
        server = Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup([listener])
        assert gc.get_freeze_count() > 0, "what is there from the start is not looked at again and again"
        assert gc.get_threshold() == COLLECTED_AFTER
        try:
            for _ in range(2):  # before it runs, and while its loop is busy
                with connected(listener, CLIENTS):
                    taken = [len(server.server_state.connections)]
                    async with asyncio.timeout(PATIENCE_S):
                        while taken[-1] < CLIENTS:
                            await asyncio.sleep(0)
                            taken.append(len(server.server_state.connections))
                    turns = [after - before for before, after in pairwise(taken)]
                    assert max(turns) <= ACCEPTED_AT_ONCE
                async with asyncio.timeout(PATIENCE_S):
                    while server.server_state.connections:  # noqa: ASYNC110 - uvicorn has no event for that
                        await asyncio.sleep(0)
        finally:
            await server.shutdown([listener])


def test_an_app_that_does_not_start_ends_the_program(capfd: pytest.CaptureFixture[str]) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no database")

    with listen("127.0.0.1", 0) as listener, pytest.raises(SystemExit) as ended:
        serve(uvicorn.Config(fails, lifespan="on", loop="asyncio"), listener)
    assert ended.value.code == 3
    said = capfd.readouterr().err
    assert "no database" in said
    assert "running on" not in said
