"""What tasks log on a node: to the clients that want it, and else to the node's own log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lifepool.backends.remote.logs import NodeLogs
from lifepool.hooks import Hook

if TYPE_CHECKING:
    from lifepool.hooks import WatchedPool

#: Records of a worker in a second: what its task logs itself, and clients can't want more.
PER_SECOND = 1000


class TaskLogs(NodeLogs, Hook):
    """Take the records of a node's workers. Add it to the node's pool before that is started.

    A record of a client that forwards logs goes to that client alone. All others are handled by the handlers of the
    node's root logger, with the worker's number as ``worker``.
    """

    logs_per_second: float = PER_SECOND

    def worker_logged(self, log: dict[str, Any]) -> None:
        """Send a record home, or handle it here."""
        if not self.take(log):
            own = {key: value for key, value in log.items() if key not in ("extra", "task", "dropped")}
            record = logging.makeLogRecord(log["extra"] | own | {"args": ()})
            root = logging.getLogger()
            if root.isEnabledFor(record.levelno):
                root.handle(record)
            if log.get("dropped"):
                message = "worker %s dropped %s log records: too many at once"
                logging.getLogger("lifepool.node").warning(message, log.get("worker"), log["dropped"])

    def pool_closed(self, pool: WatchedPool) -> None:
        """Send what is left."""
        self.flush()
