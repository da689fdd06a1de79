"""Bring home what tasks log on nodes: bounded on the way, so that a flood costs records and nothing else.

The local pool of a node brings records from its workers to the agent. Those of a client that wants them are collected
for a tenth of a second, and go to it in one message, as JSON: nothing in them is unpickled. They may get lost, as they
may between a worker and its server; how many were dropped is told.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of records that a client gets at a time: of what comes in a tenth of a second.
MOST_BYTES = 1 << 20
#: Calls whose records are still brought home after their end, for they may come behind the answer.
_REMEMBERED = 256

#: The level below which a client wants nothing, and the records that it wants of a worker in a second.
Wish = tuple[int, float]


class _Origin(NamedTuple):
    """The call that a task of the node's pool makes."""

    client: str
    id: str
    wish: Wish


class NodeLogs:
    """Collect what the workers of a node log, for the clients whose calls they run.

    Attributes:
        send: Sends to a client: its id, and records as JSON.
    """

    def __init__(self) -> None:
        self.send: Callable[[str, bytes], object] = lambda client, records: None
        self._running: dict[int, _Origin] = {}
        self._ended: deque[tuple[int, _Origin]] = deque(maxlen=_REMEMBERED)
        self._pending: dict[str, list[bytes]] = {}
        self._size: Counter[str] = Counter()  # bytes, by client
        self._taken: Counter[tuple[str, Any]] = Counter()  # in this second, by client and worker
        self._dropped: Counter[tuple[str, Any]] = Counter()
        self._second = 0.0

    def begin(self, task: int, client: str, id: str, wish: Wish | None) -> None:
        """Note which call a task makes, and what its client wants of its records."""
        if wish is not None:
            self._running[task] = _Origin(client, id, wish)

    def end(self, task: int) -> None:
        """Note that a task is done, and send what it has logged so far."""
        if (origin := self._running.pop(task, None)) is not None:
            self._ended.append((task, origin))
            if self._pending:
                self.flush()

    def take(self, log: dict[str, Any]) -> bool:
        """Take a record; return whether it is a client's, and not this node's own."""
        origin = self._origin(log.get("task"))
        if origin is None:
            return False
        level, per_second = origin.wish
        if log["levelno"] < level:
            return True
        key = origin.client, log.get("worker")
        if time.monotonic() - self._second >= 1:
            self._second = time.monotonic()
            self._taken.clear()
        self._taken[key] += 1
        self._dropped[key] += int(log.get("dropped") or 0)
        if self._taken[key] > per_second or self._size[origin.client] >= MOST_BYTES:
            self._dropped[key] += 1
            return True
        encoded = json.dumps({**log, "dropped": self._dropped.pop(key), "call": origin.id}).encode()
        self._size[origin.client] += len(encoded)
        self._pending.setdefault(origin.client, []).append(encoded)
        return True

    def flush(self) -> None:
        """Send what was collected."""
        for (client, worker), count in self._dropped.items():
            self._pending.setdefault(client, []).append(_of_drops(worker, count))
        pending, self._pending = self._pending, {}
        self._size.clear()
        self._dropped.clear()
        for client, records in pending.items():
            self.send(client, b"[%b]" % b",".join(records))

    def _origin(self, task: Any) -> _Origin | None:
        if (origin := self._running.get(task)) is not None:
            return origin
        return next((origin for ended, origin in reversed(self._ended) if ended == task), None)


def _of_drops(worker: Any, count: int) -> bytes:
    """Return a record that says what was dropped, and is itself below the level of most loggers."""
    record = {"name": "lifepool", "levelno": logging.DEBUG, "levelname": "DEBUG", "extra": {}, "worker": worker}
    return json.dumps({**record, "msg": "log records were dropped on the way", "dropped": count}).encode()


class ClientLogs:
    """Hand what nodes send to whoever wants the logs of tasks.

    Attributes:
        dropped: Records that nodes have dropped.
    """

    def __init__(self) -> None:
        self._on_record: Callable[[dict[str, Any]], object] = lambda record: None
        self.dropped: int = 0

    def want(self, on_record: Callable[[dict[str, Any]], None], per_second: float, level: int | None) -> Wish:
        """Want records from now on; return what nodes are to be told of it, with each call.

        Args:
            on_record: Called with each record.
            per_second: Records that each worker may send in a second.
            level: Below it nothing is wanted; None: the level of the root logger.
        """
        self._on_record = on_record
        return logging.getLogger().level if level is None else level, per_second

    def take(self, node: str, records: bytes, task_of: Callable[[str], int | None]) -> None:
        """Take what a node has sent.

        Args:
            node: Its name.
            records: As they were sent.
            task_of: Returns the number of the task of a call.
        """
        for log in json.loads(records):
            self.dropped += log.get("dropped") or 0
            self._on_record({**log, "task": task_of(log.pop("call", "")), "node": node})


def wish_in(head: dict[str, Any]) -> Wish | None:
    """Return what the client of a call wants of its records; None if it wants none."""
    wish = head.get("logs")
    return None if wish is None else (int(wish[0]), float(wish[1]))
