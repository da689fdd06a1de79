"""The node of Ray: an actor with an agent and its pool, on the actor's own event loop.

A client calls ``exchange`` with messages, and gets back what there is for it by then, or as soon as there is something.
It has at least one such call pending at all times: by that the node knows that the client is there, and a message to it
leaves without being asked for. All clients share the actor of a node by its name. It ends by itself when it has had no
client for a while, or when Ray drains its machine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import ray

from lifepool.backends.guard import logged
from lifepool.backends.ray.frames import ANNOUNCED, Load, reply, split
from lifepool.backends.remote.messages import VERSION, Message, Refused, Signer
from lifepool.backends.remote.node import NodeAgent
from lifepool.backends.remote.security import SKEW_S
from lifepool.backends.remote.urls import secret_here
from lifepool.nodes.task_logs import TaskLogs
from lifepool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable

logger: logging.Logger = logging.getLogger("lifepool.node")

#: The variable that names what clients may call, with commas between; without it they may call everything.
ALLOW_VARIABLE = "LIFEPOOL_ALLOW"
#: Seconds without a pending exchange after which a client counts as gone, and what it has waiting here does not run.
CLIENT_S = 5.0
#: Seconds after which what is for it is dropped as well.
FORGET_CLIENT_S = 60.0
#: Seconds without any client after which the actor ends.
IDLE_S = 30.0
#: Seconds after which a client is told that a call has arrived: most are done by then, and that says it too.
CONFIRM_S = 0.02
#: Seconds between two looks at clients, and whether the machine is drained.
LOOK_S = 1.0
#: Exchanges of one client that wait here; above, the oldest returns with nothing.
WAITING = 8
#: Messages for a client that wait here when what may get lost is dropped.
MOST_HELD = 100
#: Seconds that calls under way have when Ray drains the machine without saying how long that may take.
DRAIN_S = 30.0
_ADVICE = "add {} to LIFEPOOL_ALLOW in the environment of 'ray start' on that node, if it is meant to run that"


class _Client:
    """What there is for one client, and its exchanges that wait for that.

    Args:
        ahead_s: Seconds by which its clock is ahead.
        load: Returns how busy the node is; the counts are the client's.
    """

    def __init__(self, ahead_s: float, load: Any) -> None:
        self.ahead_s: float = ahead_s
        self.received: int = 0
        self.done: int = 0
        self.heard: float = time.monotonic()
        self._load = load
        self._outbox: list[Message] = []
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._loop = asyncio.get_running_loop()
        self._is_planned = False
        self._has_warned = False
        self._confirmed = 0  # calls of which the client knows that they have arrived

    @property
    def is_waiting(self) -> bool:
        """Whether it has an exchange pending."""
        return bool(self._waiting)

    @property
    def held(self) -> int:
        """Return how many messages wait for an exchange."""
        return len(self._outbox)

    def put(self, message: Message) -> None:
        """Send a message in this turn of the loop, together with others."""
        self._outbox.append(message)
        self.plan()

    def plan(self) -> None:
        """Reply in this turn of the loop, with whatever there is."""
        if not self._is_planned and self._waiting:
            self._is_planned = True
            self._loop.call_soon(logged(self._flush, "reply to a client"))

    def _flush(self) -> None:
        self._is_planned = False
        size = sum(len(message.payload) for message in self._outbox)
        if size > ANNOUNCED and not self._has_warned:  # the client is to know that nothing else comes through now
            self._has_warned = self._reply((), coming=size)
            self.plan()
        elif self._reply(self._outbox):
            self._outbox, self._has_warned = [], False

    def _reply(self, messages: Iterable[Message], coming: int = 0) -> bool:
        """Have the oldest exchange return; return whether there was one."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(reply(self._load(self)._replace(coming=coming), messages))
                self._confirmed = self.received
                return True
        return False

    def confirm(self) -> None:
        """Tell the client which calls have arrived, if no reply has done so yet."""
        if self._confirmed < self.received:
            self.plan()

    async def wait(self) -> bytes:
        """Return what there is, as soon as there is something."""
        waiting: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append(waiting)
        if self._outbox or len(self._waiting) > WAITING:
            self.plan()
        return await waiting

    def leave(self) -> None:
        """Have all exchanges return, with nothing."""
        while self._reply(()):
            pass
        self._has_warned = False


class RayNode:
    """A node, and the outlet of its agent. Its methods are called by drivers.

    Args:
        workers: Calls that it runs at the same time.
    """

    skew_s: float = SKEW_S

    def __init__(self, workers: int) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        # Its other settings are in the environment of the node: LIFEPOOL_MAX_WORKER_MEMORY and so on.
        self._pool = Pool(backend="local", max_workers=workers, timeout=None, drain_timeout=DRAIN_S, name="node")
        self._pool.add_hook(TaskLogs())
        allow = os.environ.get(ALLOW_VARIABLE)
        names = None if allow is None else [name.strip() for name in allow.split(",")]
        self._agent = NodeAgent(self._pool, self, Signer(secret_here()), names, _ADVICE, tells_taken=False)
        self._clients: dict[str, _Client] = {}
        self._start: asyncio.Task[None] | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._is_open = True

    # -- called by drivers ----------------------------------------------------------------------------------------

    async def hello(self, client: str, now: float) -> dict[str, Any]:
        """Take in a client, or know it again; return what it needs to know.

        Args:
            client: Names it.
            now: The time by its clock.
        """
        ahead_s = now - time.time()  # at once: a pool that starts takes its time, which is no difference of clocks
        if self._start is None:
            self._start = asyncio.create_task(self._begin())
        await asyncio.shield(self._start)
        known = self._clients.get(client)
        if known is None:
            known = self._clients[client] = _Client(ahead_s, self._load)
        known.leave()  # exchanges of a driver that is gone
        known.heard = time.monotonic()
        self._agent.announce()
        load = self._load(known)._asdict()
        return {"node": self._agent.node, "version": VERSION, "pid": os.getpid(), **load}

    async def exchange(self, client: str, batch: bytes) -> bytes:
        """Take messages; return some when there are any.

        Raises:
            LookupError: If the client was away for so long that it is not known any more.
        """
        known = self._clients[client]
        known.heard = time.monotonic()
        received = known.received
        try:
            for is_call, message in split(batch):
                if is_call:
                    known.received += 1
                    self._agent.take(message, partial(self._done, known), ahead_s=known.ahead_s)
                else:
                    self._agent.control(message)
        except Refused as refusal:
            self._agent.count(refusal, "a batch")
        if known.received > received:
            asyncio.get_running_loop().call_later(CONFIRM_S, known.confirm)
        return await known.wait()

    async def leave(self, client: str) -> None:
        """Let a client go."""
        known = self._clients.pop(client, None)
        self._agent.abandon(client)
        if known is not None:
            known.leave()

    # -- Outlet ---------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time of this machine: by how much that of a client differs, it says when it comes."""
        return time.time()

    def post(self, client: str, message: Message) -> None:
        """Send to one client."""
        if (known := self._clients.get(client)) is not None:
            known.put(message)

    def post_or_drop(self, client: str, message: Message) -> None:
        """Send to one client, unless much waits for it already: it is away."""
        if (known := self._clients.get(client)) is not None and known.held < MOST_HELD:
            known.put(message)

    def announce(self, message: Message) -> None:
        """Send to all clients that wait: the others are away, and would hear of the past."""
        for known in self._clients.values():
            if known.is_waiting:
                known.put(message)

    async def claim(self, id: str, client: str, seconds: float) -> bool:
        """Let the call run if its client is there: it has sent it to this node alone."""
        if client not in self._clients:
            raise Refused("abandoned", "its client is gone")
        return True

    async def fetch(self, id: str) -> bytes:
        """Return nothing: payloads come with their messages."""
        return b""

    # -- inside ---------------------------------------------------------------------------------------------------

    def _load(self, known: _Client) -> Load:
        return Load(self._pool.max_workers, len(self._agent.running), known.received, known.done, self._is_open)

    def _done(self, known: _Client) -> None:
        known.done += 1

    async def _begin(self) -> None:
        await self._pool.start()
        self._agent.start()
        self._upkeep = asyncio.create_task(self._keep_up())
        logger.info("the node is up: %d workers", self._pool.max_workers)

    async def _keep_up(self) -> None:
        """Look after clients until there has been none for a while, or Ray drains the machine; then end."""
        here = ray.get_runtime_context().get_node_id()
        last_client = time.monotonic()
        drain_s: float | None = None
        while drain_s is None:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            try:
                self._look_after_clients(now)
                if self._clients:
                    last_client = now
                drain_s = 0.0 if now - last_client > IDLE_S else await asyncio.to_thread(_seconds_until_drained, here)
            except Exception:
                logger.exception("lifepool failed to look after its clients; the node goes on")
        logger.info("the node ends: %s", "it has no clients" if drain_s == 0 else "Ray drains its machine")
        self._is_open = False
        await self._agent.drain(drain_s)
        await self._agent.close()
        await asyncio.sleep(LOOK_S)  # for the last replies to leave
        await self._pool.aclose()
        await asyncio.to_thread(ray.kill, ray.get_runtime_context().current_actor)

    def _look_after_clients(self, now: float) -> None:
        for name, known in list(self._clients.items()):
            away = now - known.heard
            if known.is_waiting or away < CLIENT_S:
                continue
            self._agent.abandon(name)
            if away > FORGET_CLIENT_S:
                del self._clients[name]


def _seconds_until_drained(node: str) -> float | None:
    """Return how long Ray gives to what runs on a machine that it drains; None if it does not drain it."""
    try:
        draining: dict[str, int] = ray._private.state.state.get_draining_nodes()
    except AttributeError:  # of another version of Ray
        return None
    if node not in draining:
        return None
    deadline = draining[node] / 1000
    return max(0.1, deadline - time.time() - 2 * LOOK_S) if deadline else DRAIN_S
