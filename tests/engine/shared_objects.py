"""Initializers and tasks that use objects of multiprocessing; those come by `initargs`."""

from __future__ import annotations

import os
from typing import Any

shared: dict[str, Any] = {}


def share(lock: Any, queue: Any, value: Any, event: Any, connection: Any, proxy: Any) -> None:
    shared.update(lock=lock, queue=queue, value=value, event=event, connection=connection, proxy=proxy)


def keep(*objects: Any, **more: Any) -> None:
    shared["objects"] = objects


def use(number: int) -> int:
    """Use each of them; returns the pid."""
    shared["event"].wait()
    with shared["lock"], shared["value"].get_lock():
        shared["value"].value += number
        shared["connection"].send(number)
        shared["proxy"].append(number)
    shared["queue"].put(number)
    return os.getpid()


def draw_with_lock(number: int) -> bool:
    (lock,) = shared["objects"]
    with lock:
        return number > 0
