"""The node agent: takes calls from an engine, runs them in a local pool, and sends home what became of them.

What the local pool promises holds for each call: it is ended at its deadline, also if the client is gone; a crash is
its own; a cancelled one is broken off. The agent decides what is let in, see ``security``.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import pickle
import socket
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

from lifepool._core.states import TaskState
from lifepool._transfer.exceptions import PROTOCOL
from lifepool.backends.remote import messages as msg
from lifepool.backends.remote.functions import NodeCall
from lifepool.backends.remote.local_pool import LocalCall, LocalPool
from lifepool.backends.remote.logs import NodeLogs, wish_in
from lifepool.backends.remote.members import BEAT_S
from lifepool.backends.remote.messages import Message, Refused, Signer
from lifepool.backends.remote.observation import about_node, now_here
from lifepool.backends.remote.outcomes import RecentOutcomes, outcome_of
from lifepool.backends.remote.security import ALLOW_ADVICE, LONGEST_WAIT_S, AllowList, Remembered, check_freshness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lifepool.backends.remote.functions import Setup
    from lifepool.backends.remote.transport import Outlet

logger: logging.Logger = logging.getLogger("lifepool.node")

#: Seconds between two looks at what running tasks have reported about their progress.
PROGRESS_S = 0.1
#: A call is ended here so many seconds after its deadline, if its client has not done it at that.
GRACE_S = 0.05
#: Seconds for which a call runs before its client is told that it does.
TAKEN_S = 0.005
#: Seconds for which a call waits for those that it came with.
HAND_BACK_S = 0.3


class _Running:
    """A call that this node has taken."""

    __slots__ = ("ahead_s", "client", "done", "hand_back_at", "handle", "progress")

    def __init__(self, client: str, done: Callable[[], object], ahead_s: float) -> None:
        self.client = client
        self.done = done
        self.ahead_s = ahead_s
        self.hand_back_at: float | None = None  # the instant, if it has not started by then
        self.handle: LocalCall | None = None
        self.progress: object = None


class NodeAgent:
    """Run calls that come from an engine.

    Args:
        pool: Runs them; a local one, which is started already and is not ended here.
        outlet: Where messages go out.
        signer: Makes and verifies them.
        allow: Names of modules and functions that may be called; None for all.
        advice: How a module is allowed that is not.
        tells_taken: Whether clients are told which calls are here; not needed if they have sent them to this node.

    Attributes:
        node: The id of this agent.
        refused: Messages that were refused, by reason.
        running: Calls that were taken and are not done, by their ids.
    """

    def __init__(
        self,
        pool: LocalPool,
        outlet: Outlet,
        signer: Signer,
        allow: Iterable[str] | None = (),
        advice: str = ALLOW_ADVICE,
        *,
        tells_taken: bool = True,
    ) -> None:
        self.node: str = uuid.uuid4().hex[:12]
        self.refused: Counter[str] = Counter()
        self.running: dict[str, _Running] = {}
        self._pool = pool
        self._outlet = outlet
        self._signer = signer
        self._allow = AllowList(allow, advice)
        self._tells_taken = tells_taken
        self._seen = Remembered()
        self._cancelled = Remembered()
        self._recent = RecentOutcomes()
        self._taken: dict[str, list[str]] = {}  # by client, what it is to be told
        self._tasks: set[asyncio.Task[None]] = set()
        self._upkeep: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._state = "ready"
        self._host = socket.gethostname()
        self._about = about_node(allow)
        self._logs = next((hook for hook in pool.hooks if isinstance(hook, NodeLogs)), None)
        if self._logs is not None:
            self._logs.send = self._send_logs

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Say that the node is there, and go on saying it."""
        self._upkeep = asyncio.get_running_loop().create_task(self._keep_up())

    @property
    def is_cancelled(self) -> bool:
        """Whether the event loop ends, and has cancelled what this agent does."""
        return self._upkeep is not None and (self._upkeep.done() or self._upkeep.cancelling() > 0)

    async def drain(self, timeout: float) -> None:
        """Take no more, finish what is there within ``timeout`` seconds, hand back what has not started by then."""
        self._state = "draining"
        self.announce()
        for id, call in list(self.running.items()):
            if call.handle is not None and call.handle.state is TaskState.QUEUED:
                self._settle(id, msg.UNSTARTED)
                call.handle.future.cancel()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("%d calls did not finish in %g s, and are lost", len(self.running), timeout)

    async def close(self) -> None:
        """Break off what is left, and say that the node is gone."""
        for id, call in list(self.running.items()):
            self._settle(id, msg.LOST, reason="its node was stopped")
            if call.handle is not None:
                call.handle.future.cancel()
        for task in [*self._tasks, *filter(None, [self._upkeep])]:
            task.cancel()
        await asyncio.gather(*self._tasks, *filter(None, [self._upkeep]), return_exceptions=True)
        self._state = "gone"
        self.announce()

    def announce(self) -> None:
        """Tell all clients that the node is there, and how it is."""
        statistics = self._pool.statistics()
        fields = {
            "node": self.node, "host": self._host, "pid": os.getpid(), "slots": self._pool.max_workers,
            "running": len(self.running), "state": self._state, "refused": dict(self.refused),
            "workers": dict(statistics.workers), **self._about, **now_here(),
        }  # fmt: skip
        self._outlet.announce(self._signer.sign(msg.NODE, fields))

    async def _keep_up(self) -> None:
        beats = 0
        while True:
            if beats % round(BEAT_S / PROGRESS_S) == 0:
                self.announce()
            beats += 1
            self._send_progress()
            if self._logs is not None:
                self._logs.flush()
            self._hand_back()
            await asyncio.sleep(PROGRESS_S)

    def _hand_back(self) -> None:
        """Hand back what waits for those that it came with: they run for longer than their client thought."""
        now = asyncio.get_running_loop().time()
        for id, call in list(self.running.items()):
            if call.hand_back_at is None or call.handle is None or call.hand_back_at > now:
                continue
            call.hand_back_at = None
            if call.handle.state is TaskState.QUEUED:
                self._settle(id, msg.UNSTARTED, waited=True)
                call.handle.future.cancel()

    # -- what comes in --------------------------------------------------------------------------------------------

    def take(
        self,
        message: Message,
        done: Callable[[], object] = lambda: None,
        *,
        ahead_s: float = 0.0,
        shares: bool = False,
        doubtful: bool = False,
    ) -> None:
        """Take a call; whatever is wrong with it is told to its client, if it is known who that is.

        Args:
            message: The call.
            done: Called once, when this node is done with it, whatever became of it.
            ahead_s: Seconds by which the client's clock is ahead of the outlet's, if the engine has found out.
            shares: It came together with others that are to run here: should it have to wait for them, it is handed
                back, for another node may be free.
            doubtful: It may have been delivered before, to another node, and the engine has no memory of that: its
                client decides.
        """
        try:
            head = self._signer.verify_head(message, msg.CALL)
        except Refused as refusal:
            self.count(refusal, "a message")
            done()
            return
        id, client = head["id"], head["client"]
        if id in self.running or self._state != "ready":
            if id not in self.running:
                self._post(client, id, msg.UNSTARTED)
            else:
                self.count(Refused("replayed", "it is running already"), id)
            done()
            return
        if doubtful:
            if id not in self._seen:  # else its client has heard of it
                fields = {"id": id, "node": self.node, "status": msg.UNSTARTED, "doubtful": True}
                self._outlet.post(client, self._signer.sign(msg.OUTCOME, fields))  # not kept: it is no outcome
            done()
            return
        self.running[id] = call = _Running(client, done, ahead_s)
        if shares:
            call.hand_back_at = asyncio.get_running_loop().time() + HAND_BACK_S
        self._idle.clear()
        task = asyncio.get_running_loop().create_task(self._run_guarded(id, call, head, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def control(self, message: Message) -> None:
        """Take what a client sends to all nodes: a cancellation, or the question who is there."""
        try:
            head = self._signer.verify(message, msg.CANCEL, msg.HELLO, msg.ASK)
        except Refused as refusal:
            self.count(refusal, "a message")
            return
        if head["kind"] == msg.HELLO:
            self.announce()
            return
        if head["kind"] == msg.ASK:
            self._tell(head["client"], head["ids"])
            return
        self.cancel(head["ids"])

    def cancel(self, ids: list[str]) -> None:
        """Break calls off; those that are still on their way will not run."""
        now = self._outlet.now()
        for id in ids:
            call = self.running.get(id)
            if call is None:
                self._cancelled.add(id, now + LONGEST_WAIT_S, now)  # it may be on its way
            elif call.handle is None:
                self._settle(id, msg.CANCELLED)
            else:
                call.handle.future.cancel()

    def abandon(self, client: str) -> None:
        """Drop what a client has here that has not started: it is gone. If it returns, it hears so and sends anew."""
        for id, call in list(self.running.items()):
            if call.client == client and (call.handle is None or call.handle.state is TaskState.QUEUED):
                self._settle(id, msg.UNSTARTED)
                if call.handle is not None:
                    call.handle.future.cancel()

    # -- one call -------------------------------------------------------------------------------------------------

    async def _run_guarded(self, id: str, call: _Running, head: dict[str, Any], message: Message) -> None:
        """Run a call; what goes wrong with that here, and not in the call, costs this call alone."""
        try:
            await self._run(id, call, head, message)
        except Exception as error:
            logger.exception("lifepool failed to run a call; the node goes on")
            self._settle(id, msg.LOST, reason=f"lifepool failed on its node: {error!r}")

    async def _run(self, id: str, call: _Running, head: dict[str, Any], message: Message) -> None:
        try:
            left = self._admit(id, head, call.ahead_s)
            payload = await self._claimed(id, head, message)
        except Refused as refusal:
            self.count(refusal, id)
            if refusal.reason == "replayed":
                self._forget(id)  # whoever has it answers for it
            else:
                self._settle(id, msg.REFUSED, reason=refusal.reason, message=str(refusal), hint=refusal.hint)
            return
        except Exception as error:  # the engine can't be reached
            logger.info("a call is handed back: %s", error)
            self._settle(id, msg.UNSTARTED)
            return
        if id in self._cancelled or id not in self.running:
            self._settle(id, msg.CANCELLED)
            return
        if self._tells_taken:
            self._say_taken(id, call)
        try:
            timeout = None if left is None else left + GRACE_S
            wish = None if self._logs is None else wish_in(head)
            node_call = NodeCall(head["fn"], head["limit"], _setup_in(head), None if wish is None else wish[0])
            handle = self._pool.submit(node_call, payload, timeout=timeout)
            call.handle = LocalCall(handle)
            if self._logs is not None:
                self._logs.begin(call.handle.task, call.client, id, wish)
            await asyncio.wait([handle])
        except Exception as error:  # it was not admitted: the pool ends
            logger.info("a call is handed back: %s", error)
            self._settle(id, msg.UNSTARTED)
            return
        self._send_progress_of(id, call)
        if self._logs is not None:
            self._logs.end(call.handle.task)
        status, fields, answer = outcome_of(call.handle.future)
        self._settle(id, status, answer, **fields)

    def _say_taken(self, id: str, call: _Running) -> None:
        """Tell a client that a call is here, in one message for all that are taken in this turn of the loop.

        A call that came alone may well have its outcome in a moment, which says the same.
        """
        if call.hand_back_at is None:
            asyncio.get_running_loop().call_later(TAKEN_S, self._send_taken, call.client, [id])
            return
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._send_all_taken)
        self._taken.setdefault(call.client, []).append(id)

    def _send_all_taken(self) -> None:
        taken, self._taken = self._taken, {}
        for client, ids in taken.items():
            self._send_taken(client, ids)

    def _send_taken(self, client: str, ids: list[str]) -> None:
        if ids := [id for id in ids if id in self.running]:
            self._outlet.post(client, self._signer.sign(msg.TAKEN, {"ids": ids, "node": self.node}))

    def _admit(self, id: str, head: dict[str, Any], ahead_s: float) -> float | None:
        here = self._outlet.now()
        theirs = here + ahead_s - head.get("clocks", {}).get(self.node, 0.0)
        left = check_freshness(head, theirs, self._outlet.skew_s)
        self._allow.check(head["fn"])
        if "setup" in head:
            self._allow.check(head["setup"][0])
        if not self._seen.add(id, here + LONGEST_WAIT_S + 2 * self._outlet.skew_s, here):
            raise Refused("replayed", "it was here before")
        return left

    async def _claimed(self, id: str, head: dict[str, Any], message: Message) -> bytes:
        """Claim the call for this node; return its payload, verified."""
        if not await self._outlet.claim(id, head["client"], LONGEST_WAIT_S + 2 * self._outlet.skew_s):
            raise Refused("replayed", "another node has taken it before")
        if "digest" in head and not message.payload:
            message = message._replace(payload=await self._outlet.fetch(id))
        self._signer.verify(message, msg.CALL)
        return message.payload

    def _settle(self, id: str, status: str, answer: bytes = b"", **fields: Any) -> None:
        """Send home what became of a call, once."""
        call = self.running.get(id)
        if call is not None:
            self._forget(id)
            self._post(call.client, id, status, answer, **fields)

    def _forget(self, id: str) -> None:
        call = self.running.pop(id, None)
        if not self.running:
            self._idle.set()
        if call is not None:
            call.done()

    def _post(self, client: str, id: str, status: str, answer: bytes = b"", **fields: Any) -> None:
        outcome = self._signer.sign(msg.OUTCOME, {"id": id, "node": self.node, "status": status, **fields}, answer)
        self._recent.add(id, outcome)
        self._outlet.post(client, outcome)

    def count(self, refusal: Refused, what: str) -> None:
        """Count and log a message that was refused."""
        self.refused[refusal.reason] += 1
        hint = f" ({refusal.hint})" if refusal.hint else ""
        logger.warning("refused %s: %s: %s%s", what, refusal.reason, refusal, hint)

    # -- on the side ----------------------------------------------------------------------------------------------

    def _tell(self, client: str, ids: list[str]) -> None:
        """Tell a client that was away what runs here, and again what has ended here lately."""
        running = [id for id in ids if id in self.running]
        if running:
            self._outlet.post(client, self._signer.sign(msg.TAKEN, {"ids": running, "node": self.node}))
        for id in ids:
            if (outcome := self._recent.get(id)) is not None:
                self._outlet.post(client, outcome)

    def repeat_taken(self) -> None:
        """Tell clients again what runs here: the engine was away, and may have lost it."""
        for id, call in self.running.items():
            if call.handle is not None:
                self._outlet.post(call.client, self._signer.sign(msg.TAKEN, {"ids": [id], "node": self.node}))

    def _send_logs(self, client: str, records: bytes) -> None:
        fields = {"node": self.node, "name": f"{self._host}:{os.getpid()}"}
        # An engine that keeps what it can't send has a way for what may get lost.
        send = getattr(self._outlet, "post_or_drop", self._outlet.post)
        send(client, self._signer.sign(msg.LOG, fields, records))

    def _send_progress(self) -> None:
        for id, call in self.running.items():
            self._send_progress_of(id, call)

    def _send_progress_of(self, id: str, call: _Running) -> None:
        value = None if call.handle is None else call.handle.progress
        if value is call.progress:
            return
        call.progress = value
        try:
            pickled = pickle.dumps(value, PROTOCOL)
        except Exception:
            logger.warning("the progress of a task could not be pickled again, and is left out", exc_info=True)
            return
        self._outlet.post(call.client, self._signer.sign(msg.PROGRESS, {"id": id, "node": self.node}, pickled))


def _setup_in(head: dict[str, Any]) -> Setup | None:
    if "setup" not in head:
        return None
    spec, pickled = head["setup"]
    return spec, base64.b64decode(pickled)
