"""Tasks that log."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import structlog

from lifepool._inside.state import current_task

log = logging.getLogger("app.work")


def say(message: str, level: int = logging.INFO, extra: dict[str, Any] | None = None) -> int:
    log.log(level, message, extra=extra)
    return current_task()


def say_that_it_failed() -> None:
    try:
        raise ValueError("no such file")
    except ValueError:
        log.exception("could not %s", "read")


def flood(count: int) -> int:
    for number in range(count):
        log.info("%d", number)
    return count


def say_from_a_thread_and_a_fork() -> None:
    thread = threading.Thread(target=log.info, args=("from a thread",))
    thread.start()
    thread.join()
    child = os.fork()
    if child == 0:
        log.info("from a fork")
        os._exit(0)
    os.waitpid(child, 0)


def say_and_die() -> None:
    log.info("goodbye")
    os._exit(3)


def write_garbage() -> None:
    sender: Any = logging.getLogger().handlers[0]
    sender._socket.send(b"\x80\x04garbage")
    sender._socket.send(b"[" * 20_000)
    sender._socket.send(b'{"name": "x", "levelno": "high", "extra": {}}')


def say_something_long() -> None:
    log.info("é" * 100_000, extra={"blob": "y" * 100_000})


def use_structlog() -> None:
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def say_with_structlog() -> None:
    structlog.get_logger("app.struct").info("paid", amount=3)
