"""What became of a call: told by the node's pool, put into a message, and read by the client."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lifepool._core.events import WorkerExited
from lifepool._transfer.exceptions import encode_error
from lifepool.backends.remote import messages as msg
from lifepool.errors import BackendError, BackendUnsupported, TaskTimeout, WorkerLost

if TYPE_CHECKING:
    from lifepool.backends.remote.functions import Answer
    from lifepool.backends.remote.messages import Message

#: Bytes of outcomes that a node keeps, and what one without an answer counts for.
KEPT_BYTES, SMALLEST_BYTES = 32 * 1024 * 1024, 1024


def outcome_of(handle: asyncio.Future[Answer]) -> tuple[str, dict[str, Any], bytes]:
    """Return the status, the fields and the answer of a call that is done, on its node."""
    if handle.cancelled():
        return msg.CANCELLED, {}, b""
    error = handle.exception()
    if error is None:
        value, raised, run_s = handle.result()
        if raised is not None:
            return msg.RAISED, {"run_s": run_s}, raised
        return msg.RETURNED, {"run_s": run_s}, value or b""
    if isinstance(error, WorkerLost):
        end = {"exitcode": error.exitcode, "signal": error.signal, "oom": error.oom_suspected}
        return msg.LOST, {**end, "reason": "" if error.exitcode or error.signal else str(error)}, b""
    if isinstance(error, TaskTimeout):
        return msg.TIMED_OUT, {"timeout": error.timeout}, b""
    if isinstance(error, asyncio.CancelledError):
        return msg.CANCELLED, {}, b""
    return msg.RAISED, {"run_s": 0.0}, encode_error(error)


def lost_end(worker: int, task: int, head: dict[str, Any]) -> WorkerExited:
    """Return what is known of the end of what ran a task."""
    return WorkerExited(
        worker,
        (task,) if head["status"] == msg.UNSTARTED else (),
        exitcode=head.get("exitcode"),
        signal=head.get("signal"),
        oom_suspected=head.get("oom", False),
        reason=head.get("reason", ""),
    )


def error_of(head: dict[str, Any]) -> Exception:
    """Return the error for a call that was refused, or ended by its node for another reason than its own."""
    status = head["status"]
    if status == msg.TIMED_OUT:
        return TaskTimeout(head["timeout"], started=True)
    if status == msg.REFUSED and head["reason"] == "not allowed":
        return BackendUnsupported(head["message"], capability="allow", hint=head["hint"] or None)
    if status == msg.REFUSED:
        return BackendError(f"the node {head['node']} refused the call: {head['message']}", hint=head["hint"] or None)
    return BackendError("the call was cancelled by somebody else", hint="look at the log of the node")


class RecentOutcomes:
    """What was sent lately, in case that it got lost; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._outcomes: OrderedDict[str, Message] = OrderedDict()
        self._size = 0

    def add(self, id: str, outcome: Message) -> None:
        """Keep an outcome."""
        self._outcomes[id] = outcome
        self._size += len(outcome.payload) + SMALLEST_BYTES
        while self._size > KEPT_BYTES and self._outcomes:
            _, oldest = self._outcomes.popitem(last=False)
            self._size -= len(oldest.payload) + SMALLEST_BYTES

    def get(self, id: str) -> Message | None:
        """Return an outcome that is still kept."""
        return self._outcomes.get(id)
