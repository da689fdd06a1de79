"""Run tasks on a cluster: to the scheduler one worker with as many slots as the cluster has.

Theory of operation
    A task that is sent becomes a signed call with an id of its own. From then on it is *on its way*, until a node says
    that it has taken it; then it is with that node, until its outcome comes. The first outcome counts, others of the
    same id are dropped. A node that is not heard of any more is gone, and what it had is lost; what may have been on
    its way to it is taken back if it still can be, and is lost else.

    While nothing goes through, calls wait for a moment; after that they fail with ``BackendUnavailable``, as do new
    ones. Calls under way keep their deadlines. When messages go through again, all goes on by itself.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

from lifepool._core.events import TaskLost, TasksTaken, WorkerExited, WorkerResized
from lifepool.backends.base import Capabilities
from lifepool.backends.guard import logged
from lifepool.backends.remote import messages as msg
from lifepool.backends.remote.availability import Availability
from lifepool.backends.remote.calls import Calls, SentCall
from lifepool.backends.remote.functions import RemoteCall
from lifepool.backends.remote.logs import ClientLogs
from lifepool.backends.remote.members import SILENCE_S, Members
from lifepool.backends.remote.messages import Message, Refused, Signer
from lifepool.backends.remote.observation import ClusterCounts
from lifepool.backends.remote.outcomes import error_of, lost_end
from lifepool.backends.remote.pace import Pace
from lifepool.backends.remote.sending import Sending
from lifepool.backends.remote.upkeep import SEARCH_AFTER_S, Upkeep
from lifepool.backends.serialized_calls import opened
from lifepool.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lifepool._transfer.context import PropagatedContext
    from lifepool.backends.base import Listener
    from lifepool.backends.remote.transport import Transport
    from lifepool.statistics import ClusterStatistics

logger: logging.Logger = logging.getLogger("lifepool")

#: Calls under way at most, unless the URL says otherwise.
IN_FLIGHT = 1024
#: Slots while every call is refused: then none waits for one.
NO_LIMIT = 1 << 30
#: Seconds for which a start waits for nodes once it is known that the engine can't be reached.
UNREACHABLE_AT_START_S = 2.0


class RemoteBackend:
    """One worker that is a cluster.

    Args:
        transport: Carries messages.
        signer: Makes and verifies them.
        in_flight: Calls under way at most.
        ahead: Calls beyond the slots of the cluster, as a share of them, that wait there: then a node that is done with
            one has the next at hand.
        max_payload: Bytes that a call or a result may have.
        progress: Whether its nodes pass progress on.
        shares: Whether short calls may share an envelope.
        initializer: Called once in each worker of a node, before the first call of this client that it makes.
        initargs: Its arguments.

    Attributes:
        members: The nodes.
        refused: Messages of nodes that were refused, by reason.
        counts: What was counted.
        wait_for_nodes_s: Seconds for which a start waits for a node.
    """

    def __init__(
        self,
        transport: Transport,
        signer: Signer,
        *,
        in_flight: int = IN_FLIGHT,
        ahead: float = 0.5,
        max_payload: int = 256 * 1024 * 1024,
        progress: bool = True,
        shares: bool = True,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        self.members: Members = Members()
        self.refused: Counter[str] = Counter()
        self.client: str = uuid.uuid4().hex[:12]
        self.wait_for_nodes_s: float = transport.wait_for_nodes_s
        self._transport = transport
        self._signer = signer
        self._max_payload = max_payload
        self._fields: dict[str, Any] = {"client": self.client, "limit": max_payload}
        if initializer is not None:
            setup = RemoteCall(initializer, initargs, (), max_payload)
            self._fields["setup"] = [setup.spec, base64.b64encode(setup.pickled).decode()]
        self._calls = Calls(self.client)
        self._logs = ClientLogs()
        self.counts: ClusterCounts = ClusterCounts(transport.where, self.members, self._calls, self._logs, self.refused)
        self._pace = Pace(ahead, max(2, in_flight))
        self._sending = Sending(
            self._calls, self.members, self._pace, transport, signer, self._fields, self.plan_flush, shares=shares
        )
        self._slots = 0
        self._size = self._pace.right_size(0)
        self._doubtful: list[str] = []  # ids of calls that were given up, and may have got out
        self._flush_planned = False
        self._worker: int | None = None
        self._is_ready = False
        self._upkeep: Upkeep | None = None
        self.capabilities: Capabilities = Capabilities(
            kill=True,
            interrupt=True,
            retract=False,
            progress=progress,
            crash_isolation=True,
            logs=True,
            remote=True,
            slots=max(2, in_flight),
            max_workers=1,
        )

    # -- Backend: life --------------------------------------------------------------------------------------------

    async def open(self, listener: Listener) -> None:
        """Begin to connect."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._available = Availability(self._loop.time())
        self._upkeep = Upkeep(self, self._calls, self.members, self._available, self._transport)
        await self._transport.open(self, self.client)

    def forward_logs(self, on_record: Callable[[dict[str, Any]], None], per_second: float, level: int | None) -> None:
        """Have nodes send home what the calls log that are sent from now on."""
        self._fields["logs"] = self._logs.want(on_record, per_second, level)
        self._calls.remembers = True

    def cluster_statistics(self) -> ClusterStatistics | None:
        """Return one look at the cluster, from any thread; None before it was opened."""
        if self._upkeep is None:
            return None
        return self.counts.look(not self._available.is_down, self.why_unavailable(), self._loop.time())

    def start_worker(self, worker: int) -> None:
        """Be ready when a node was heard of, or after a while without one: a cluster may come up after the app."""
        self._worker = worker
        if self.members.slots():
            self._get_ready()
        else:
            self._get_ready_in(self.wait_for_nodes_s)

    def _get_ready_in(self, seconds: float) -> None:
        self._loop.call_later(seconds, logged(self._get_ready, "start without nodes"))

    def _get_ready(self) -> None:
        if self._worker is None or self._is_ready:
            return
        if not self.members.slots():
            logger.warning("no node was heard of at %s: %s", self._transport.where, self.why_unavailable() or "yet")
        self._is_ready = True
        self._listener.ready(self._worker)
        self.resize()

    def stop_worker(self, worker: int) -> None:
        """Report the end at once: nothing is under way."""
        self.kill_worker(worker)

    def kill_worker(self, worker: int) -> None:
        """Cancel all that is under way, and report the end."""
        if worker != self._worker:
            return
        self._worker, self._is_ready = None, False
        self.send_cancels(self._calls)
        self._calls.clear()
        self._listener.exited(WorkerExited(worker, exitcode=0, reason="the pool let the cluster go"))

    def pid(self, worker: int) -> None:
        """Return None: it is no process of this machine."""

    def retract(self, worker: int) -> tuple[int, ...]:
        """Do nothing: this is never called, see the capabilities."""
        return ()

    def abandon(self) -> None:
        """Do nothing: the calls under way have deadlines that their nodes keep."""

    async def close(self) -> None:
        """Cancel what is under way and disconnect."""
        if self._worker is not None:
            self.kill_worker(self._worker)
        if self._upkeep is not None:
            await self._upkeep.close()
        self._sending.close()
        await self._transport.close()

    # -- Backend: tasks -------------------------------------------------------------------------------------------

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        *,
        lent: bool = False,
        copy: bool = True,
    ) -> RemoteCall:
        """Name the function and pickle its arguments.

        Raises:
            BackendUnavailable: If nothing goes through to the cluster, or it has no nodes.
            TaskNotPicklable: If the function has no import path, or an argument can't be pickled.
            PayloadTooLarge: If it is above the limit.
        """
        if (reason := self.why_unavailable()) is not None:
            raise self.unavailable(reason)
        return RemoteCall(fn, args, propagated, self._max_payload)

    def send(self, worker: int, task: int, payload: RemoteCall) -> None:
        """Send a call in this turn of the loop, together with others."""
        if (reason := self.why_unavailable()) is not None:
            self._listener.returned(worker, task, None, self.unavailable(reason), run_s=0.0)
            return
        self._calls.add(task, payload)
        self.plan_flush()
        if self._available.is_down:
            self._hurry()

    def interrupt(self, worker: int, task: int) -> None:
        """Cancel a call: what has not left is dropped, else all nodes are told, for it may be on its way to any."""
        sent = self._calls.of_task(task)
        if sent is None:
            return
        if sent.message is None:  # (it may be back again)
            self.give_back(sent, BackendError("it was cancelled before it was sent"))
            return
        sent.cancelled = self._loop.time()
        self.send_cancels([sent])
        self._hurry()

    def plan_flush(self) -> None:
        """Send what waits in the next turn of the loop."""
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(logged(self._flush, "send calls to the cluster"))

    def _flush(self) -> None:
        self._flush_planned = False
        if self._calls.has_waiting and not self._available.is_down:  # else the upkeep looks after them
            self._sending.flush(self._listener)

    def send_cancels(self, calls: Iterable[SentCall]) -> None:
        """Cancel calls on whatever node they are."""
        self._broadcast_ids(msg.CANCEL, [sent.id for sent in calls if sent.message is not None])

    def ask(self, ids: list[str]) -> None:
        """Ask all nodes for calls: who has one says so, or what became of it."""
        self._broadcast_ids(msg.ASK, ids)

    def _broadcast_ids(self, kind: str, ids: list[str]) -> None:
        for start in range(0, len(ids), 500):
            fields = {"client": self.client, "ids": ids[start : start + 500]}
            self._transport.broadcast(self._signer.sign(kind, fields))

    # -- TransportListener ----------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Send what waits; ask who is there."""
        now = self._loop.time()
        if self._available.connected() and self.members.ever:
            logger.warning("the cluster at %s can be reached again", self._transport.where)
        self.members.bear_with(now)
        self.resize()
        doubtful, self._doubtful = self._doubtful, []
        self._broadcast_ids(msg.CANCEL, doubtful)
        self._transport.broadcast(self._signer.sign(msg.HELLO, {"client": self.client}))
        under_way = [sent for sent in self._calls if sent.message is not None]
        for sent in under_way:  # whoever has it says so, or what became of it
            # A node that had it may come back later than we. If it is gone, that is found out, and all is looked for.
            patience_s = SILENCE_S + SEARCH_AFTER_S if sent.was_taken else SEARCH_AFTER_S
            sent.node, sent.is_missed, sent.search_at = None, False, now + patience_s
        ids = [sent.id for sent in under_way]
        # What came back may have got out all the same, and may have an outcome by now.
        ids += [sent.id for sent in self._calls.waiting if sent.is_doubtful]
        self.ask(ids)
        if self._upkeep is not None:
            self._upkeep.ask_again(ids)
        self.plan_flush()
        self._hurry()

    def disconnected(self, reason: str) -> None:
        """Note that nothing goes through."""
        if self._available.disconnected(reason, self._loop.time()):
            logger.warning("the cluster at %s can't be reached: %s", self._transport.where, reason)
        if self._worker is not None and not self._is_ready:
            self._get_ready_in(UNREACHABLE_AT_START_S)
        self._hurry()

    def unsent(self, ids: Sequence[str]) -> None:
        """Let calls wait again that may not have got out."""
        for id in ids:
            if (sent := self._calls.get(id)) is not None:
                self._calls.came_back(sent)
        self.plan_flush()
        self._hurry()

    def sent_to(self, node: str, ids: Sequence[str]) -> None:
        """Note on which node calls are: they do not wait at the engine any more."""
        found = [sent for id in ids if (sent := self._calls.get(id)) is not None]
        taken = [sent for sent in found if sent.node != node]  # else it says so once more, because it was asked
        for sent in taken:
            self._calls.taken(sent, node)
        if taken and self._worker is not None:
            self._listener.feed(TasksTaken(self._worker, tuple([sent.task for sent in taken])))
        if self._calls.has_waiting:
            self.plan_flush()

    def is_there(self, node: str) -> None:
        """Count a node as heard."""
        self.members.bear_with(self._loop.time(), node)

    def node_lost(self, node: str, reason: str) -> None:
        """Lose what the node had; look for what may have been on its way to it."""
        if not self.members.forget(node) and all(sent.node != node for sent in self._calls):
            return  # it had said so before
        logger.warning("a node of the cluster is gone: %s", reason)
        now = self._loop.time()
        self.members.given_up(node, [sent.id for sent in self._calls if sent.node == node])
        for sent in self._calls:
            if sent.node == node:
                self.lose(sent, {"status": msg.LOST, "reason": f"its node is gone: {reason}"})
            elif sent.node is None and sent.message is not None:
                sent.search_at = now + SEARCH_AFTER_S
        self._count_nodes()

    def received(self, message: Message) -> None:
        """Take a message of a node, if it is a good one."""
        try:
            head = self._signer.verify(message, msg.OUTCOME, msg.TAKEN, msg.PROGRESS, msg.NODE, msg.LOG)
        except Refused as refusal:
            self.refused[refusal.reason] += 1
            if self.refused[refusal.reason] == 1:
                logger.warning("refused a message of a node: %s (%s)", refusal, refusal.hint)
            return
        kind = head["kind"]
        if kind == msg.NODE:
            if self.members.heard(head, self._loop.time()):
                self._broadcast_ids(msg.CANCEL, self.members.still_runs(head["node"]))
                self._count_nodes()
        elif kind == msg.TAKEN:
            self.sent_to(head["node"], head["ids"])
        elif kind == msg.PROGRESS:
            self._progressed(head, message.payload)
        elif kind == msg.LOG:
            self._logs.take(head["name"], message.payload, self._calls.task_of)
        else:
            self._finished(head, message)

    # -- outcomes -------------------------------------------------------------------------------------------------

    def _progressed(self, head: dict[str, Any], pickled: bytes) -> None:
        sent = self._calls.get(head["id"])
        value, error, _ = opened((pickled, None, 0.0))
        if sent is not None and self._worker is not None and error is None:
            self._listener.progressed(self._worker, sent.task, value)

    def _finished(self, head: dict[str, Any], message: Message) -> None:
        sent = self._calls.get(head["id"])
        if sent is None or self._worker is None:
            self.counts.redelivered += 1
            return
        if head.get("doubtful"):
            self._search_for(sent)
            return
        status, payload = head["status"], message.payload
        if status in (msg.LOST, msg.UNSTARTED):
            if head.get("waited"):
                self._pace.was_handed_back(sent.payload.spec)
            self.lose(sent, head)
        elif status in (msg.RETURNED, msg.RAISED):
            answer = (payload, None, head["run_s"]) if status == msg.RETURNED else (None, payload, head["run_s"])
            value, error, run_s = opened(answer)
            self._calls.forget(sent)
            if sent.envelope is not None:
                self.counts.overhead.observe(max(0.0, self._loop.time() - sent.envelope.sent_at - run_s))
            self._pace.took(sent.payload.spec, run_s)
            self._listener.returned(self._worker, sent.task, value, error, run_s=run_s, size=len(payload))
            self._adapt()
        else:
            self.give_back(sent, error_of(head))

    def _search_for(self, sent: SentCall) -> None:
        """Find out whether any node has a call that was delivered twice; the second has not started it."""
        if sent.node is None:
            sent.search_at = self._loop.time() + SEARCH_AFTER_S
            self.ask([sent.id])
            self._hurry()

    def give_back(self, sent: SentCall, error: Exception) -> None:
        """Answer for a call that has no answer of its own."""
        if sent.is_doubtful:
            self._doubtful.append(sent.id)
            if isinstance(error, BackendUnavailable):
                error.may_have_started = True
        self._calls.forget(sent)
        if self._worker is not None:
            self._listener.returned(self._worker, sent.task, None, error, run_s=0.0)

    def lose(self, sent: SentCall, head: dict[str, Any]) -> None:
        """Report that the call is lost, or was not started."""
        if self._available.is_down:
            self._doubtful.append(sent.id)  # it may still run
        self._calls.forget(sent)
        if self._worker is not None:
            self._listener.feed(TaskLost(self._worker, sent.task, lost_end(self._worker, sent.task, head)))

    # -- nodes ----------------------------------------------------------------------------------------------------

    def _count_nodes(self) -> None:
        self._slots = slots = self.members.slots()
        self._available.count_slots(slots, self._loop.time())
        if slots:
            self._get_ready()
        self.resize()

    def resize(self) -> None:
        """Tell the scheduler how many calls may be under way; without limit while none can be: each is refused then."""
        if self._worker is None or not self._is_ready:
            return
        self._size = NO_LIMIT if self.why_unavailable() else self._pace.right_size(self._slots)
        self._listener.feed(WorkerResized(self._worker, self._size))

    def _adapt(self) -> None:
        """Resize if it makes a difference."""
        if self._size != NO_LIMIT and not 0.8 < self._pace.right_size(self._slots) / self._size < 1.25:
            self.resize()

    def why_unavailable(self) -> str | None:
        """Say why a call can't be sent now; None if it can."""
        reason = self._available.why_not(self._loop.time())
        if reason is not None and not self.members.ever and self.refused["unsigned"]:
            return "its nodes have another secret than this process: set LIFEPOOL_SECRET to the same on both sides"
        return reason

    def unavailable(self, reason: str) -> BackendUnavailable:
        """Make the error for a call that can't be sent."""
        return BackendUnavailable(
            f"the cluster at {self._transport.where} takes no calls: {reason}",
            hint="look at its broker and its nodes; calls go through again by themselves when it is back",
        )

    def _hurry(self) -> None:
        if self._upkeep is not None:
            self._upkeep.hurry()
