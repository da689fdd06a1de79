"""Let the workers of an existing Celery app run our calls: its own processes, with what Celery can do and no more.

Each call is a Celery task, run by a process of its prefork pool. The deadline is Celery's hard time limit, and a
cancellation its ``revoke(terminate=True)``: both end the process, and Celery starts another one. There is no progress,
no exception that a task could clean up after, and a node that comes back does not repeat outcomes that were lost.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import redis

from lifepool.backends.celery.names import TASK, Keys, calls_in
from lifepool.backends.celery.transport import CLIENT_S
from lifepool.backends.remote import messages as msg
from lifepool.backends.remote.functions import NodeCall
from lifepool.backends.remote.members import BEAT_S
from lifepool.backends.remote.messages import Message, Refused, Signer
from lifepool.backends.remote.security import LONGEST_WAIT_S, AllowList, check_freshness
from lifepool.backends.remote.urls import parse, signer_for
from lifepool.errors import BackendUnsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

logger: logging.Logger = logging.getLogger("lifepool.node")

#: Seconds by which the clock of the server, read for each call, may differ from what a client takes it for.
SKEW_S = 0.5


def register(app: Any, *, allow: Iterable[str], queue: str | None = None) -> None:
    """Have the workers of a Celery app run the calls of pools, beside the app's own tasks.

    Call it where the app is made. Pools reach these workers by ``Pool(backend="celery+redis://...?workers=celery")``,
    with ``&queue=`` and the queue's name.

    Args:
        app: The app. Its broker must be Redis, and its workers must use Celery's ``prefork`` pool.
        allow: Modules and functions that pools may call, as ``lifepool worker --allow`` takes them.
        queue: A queue that the workers read; by default the app's default queue.

    Raises:
        BackendUnsupported: If the broker is another one, or one beyond this machine and there is no
            ``LIFEPOOL_SECRET``. A worker with another pool than ``prefork`` refuses to start with the same.
    """
    broker = str(app.conf.broker_url or "")
    if not broker.startswith(("redis://", "rediss://")):
        raise BackendUnsupported(
            "register(app) needs an app whose broker is Redis",
            capability="register",
            hint="start nodes of their own with 'lifepool worker --backend celery+amqp://...'",
        )
    name = queue or str(app.conf.task_default_queue)
    url = parse(f"celery+{broker.partition('?')[0]}?queue={name}&workers=celery")
    Registered(app, url.address, Keys(name), signer_for(url), AllowList(allow))


class Registered:
    """What ``register`` has made of an app, in its worker's main process and in each process of its pool.

    Args:
        app: The app.
        address: Of Redis.
        keys: Of the queue.
        signer: Makes and verifies messages.
        allow: What may be called.
    """

    def __init__(self, app: Any, address: str, keys: Keys, signer: Signer, allow: AllowList) -> None:
        from celery import signals

        self._app = app
        self._address = address
        self._keys = keys
        self._signer = signer
        self._allow = allow
        self._node = uuid.uuid4().hex[:12]  # of the worker: its processes are forked after this
        self._redis: redis.Redis | None = None
        self._pid = 0
        self._main: _Main | None = None
        app.task(name=TASK, ignore_result=True, acks_late=False)(self.run)
        signals.worker_ready.connect(self._start, weak=False)
        signals.worker_shutting_down.connect(self._stop, weak=False)

    # -- a process of the pool ------------------------------------------------------------------------------------

    def run(self, text: str) -> None:
        """Run the call that is in a Celery message."""
        try:
            (message, *others) = calls_in(json.dumps([[text], {}, {}]))
            head = self._signer.verify_head(message, msg.CALL)
        except (Refused, ValueError) as refusal:
            logger.warning("refused a message: %s", refusal)
            return
        for each in (message, *others) if others else ():
            shared = self._signer.verify_head(each, msg.CALL)
            hint = "add workers=celery to the URL of the pool"
            self._refuse(shared, Refused("shared", "Celery's own workers take one call in a message", hint))
        if others:
            return
        try:
            payload = self._admitted(head, message)
        except Refused as refusal:
            logger.warning("refused %s: %s", head["id"], refusal)
            if refusal.reason != "replayed":
                self._refuse(head, refusal)
            return
        self.post(head["id"], msg.TAKEN, {"ids": [head["id"]]})
        value, raised, run_s = NodeCall(head["fn"], head["limit"], _setup_in(head))(payload)
        status = msg.RETURNED if raised is None else msg.RAISED
        self.settle(head["id"], status, (value if raised is None else raised) or b"", run_s=run_s)

    def _admitted(self, head: dict[str, Any], message: Message) -> bytes:
        id = head["id"]
        with self.connection().pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.exists(self._keys.client(head["client"]))
            pipeline.set(self._keys.claim(id), self._node, nx=True, ex=int(LONGEST_WAIT_S) + 2)
            if "digest" in head and not message.payload:
                pipeline.execute_command("GETDEL", self._keys.payload(id))
            (seconds, micros), is_there, claimed, *beside = pipeline.execute()
        check_freshness(head, seconds + micros / 1e6, SKEW_S)
        self._allow.check(head["fn"])
        if "setup" in head:
            self._allow.check(head["setup"][0])
        if not is_there:
            raise Refused("abandoned", "its client is gone")
        if not claimed:
            raise Refused("replayed", "it was taken before")
        if beside:
            message = message._replace(payload=beside[0] or b"")
        self._signer.verify(message, msg.CALL)
        return message.payload

    def _refuse(self, head: dict[str, Any], refusal: Refused) -> None:
        fields: dict[str, Any] = {"reason": refusal.reason, "message": str(refusal), "hint": refusal.hint}
        self.settle(head["id"], msg.REFUSED, **fields)

    # -- both -----------------------------------------------------------------------------------------------------

    def connection(self) -> redis.Redis:
        """Return the connection of this process."""
        if self._redis is None or self._pid != os.getpid():
            self._redis, self._pid = redis.Redis.from_url(self._address), os.getpid()
        return self._redis

    def settle(self, id: str, status: str, answer: bytes = b"", **fields: Any) -> None:
        """Send home what became of a call."""
        self.post(id, msg.OUTCOME, {"id": id, "status": status, **fields}, answer)

    def post(self, id: str, kind: str, fields: dict[str, Any], payload: bytes = b"") -> None:
        """Send a message to the client that the id names."""
        message = self._signer.sign(kind, {"node": self._node, **fields}, payload)
        key = self._keys.replies(id.rpartition("-")[0])
        with self.connection().pipeline(transaction=False) as pipeline:
            pipeline.rpush(key, message.pack())
            pipeline.expire(key, 4 * CLIENT_S)
            pipeline.execute()

    # -- the main process -----------------------------------------------------------------------------------------

    def _start(self, sender: Any, **_: Any) -> None:
        pool = sender.pool
        if not type(pool).__module__.endswith(".prefork"):
            raise BackendUnsupported(
                f"register(app) needs Celery's prefork pool, not {type(pool).__module__.rpartition('.')[2]}",
                capability="register",
                hint="start the worker with --pool prefork: only there can Celery end a task that runs",
            )
        self._main = _Main(self, self._app, sender, self._address, self._keys, self._signer, self._node)
        self._main.start()

    def _stop(self, **_: Any) -> None:
        if self._main is not None:
            self._main.stop()


class _Main:
    """What a worker's main process does: say that it is there, end what is cancelled, and tell of what was killed."""

    def __init__(
        self, owner: Registered, app: Any, consumer: Any, address: str, keys: Keys, signer: Signer, node: str
    ) -> None:
        self._owner = owner
        self._app = app
        self._consumer = consumer
        self._address = address
        self._keys = keys
        self._signer = signer
        self._node = node
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lifepool-celery", daemon=True)

    def start(self) -> None:
        """Begin."""
        from celery import signals

        signals.task_failure.connect(self._failed, weak=False)
        signals.task_revoked.connect(self._revoked, weak=False)
        self._thread.start()

    def stop(self) -> None:
        """Say that the worker takes no more."""
        self._ended.set()
        self._thread.join(2 * BEAT_S)

    def _failed(self, sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
        """Tell the client, for the process that ran its call can't: Celery has ended it, or it has ended by itself."""
        if sender.name != TASK or type(exception).__name__ not in ("WorkerLostError", "TimeLimitExceeded"):
            return
        if type(exception).__name__ == "TimeLimitExceeded":
            self._owner.settle(task_id, msg.TIMED_OUT, timeout=float(exception.args[0]))
        else:
            self._owner.settle(task_id, msg.LOST, reason=str(exception))

    def _revoked(self, sender: Any, request: Any, **_: Any) -> None:
        if sender.name == TASK:
            self._owner.settle(request.id, msg.CANCELLED)

    # -- in the thread --------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._ended.is_set():
            try:
                with redis.Redis.from_url(self._address) as connection:
                    self._listen(connection)
            except Exception as error:
                logger.warning("the worker's connection for lifepool broke, and is made anew: %s", error)
                self._ended.wait(BEAT_S)

    def _listen(self, connection: redis.Redis) -> None:
        with connection.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe(self._keys.control)
            announced = 0.0
            while not self._ended.is_set():
                if time.monotonic() - announced >= BEAT_S:
                    announced = time.monotonic()
                    self._announce(connection, "ready")
                said = channel.get_message(timeout=BEAT_S / 2)
                if said is not None:
                    self._hear(connection, said["data"])
            self._announce(connection, "gone")

    def _announce(self, connection: redis.Redis, state: str) -> None:
        slots, running = self._consumer.pool.num_processes, len(self._active())
        fields = {
            "node": self._node, "host": socket.gethostname(), "pid": os.getpid(), "slots": slots, "running": running,
            "state": state, "refused": {}, "workers": {"idle": max(0, slots - running), "busy": min(slots, running)},
        }  # fmt: skip
        connection.publish(self._keys.nodes, self._signer.sign(msg.NODE, fields).pack())

    def _hear(self, connection: redis.Redis, data: bytes) -> None:
        try:
            head = self._signer.verify(Message.unpack(data), msg.CANCEL, msg.HELLO, msg.ASK)
        except Refused as refusal:
            logger.warning("refused what was published: %s", refusal)
            return
        if head["kind"] == msg.HELLO:
            self._announce(connection, "ready")
        elif head["kind"] == msg.ASK:
            if running := [id for id in head["ids"] if id in self._active()]:
                self._owner.post(running[0], msg.TAKEN, {"ids": running})
        elif head["ids"]:
            hostname = self._consumer.hostname
            self._app.control.revoke(head["ids"], terminate=True, signal="SIGKILL", destination=[hostname])

    def _active(self) -> set[str]:
        from celery.worker import state

        return {request.id for request in list(state.active_requests) if request.name == TASK}


def _setup_in(head: dict[str, Any]) -> tuple[Any, bytes] | None:
    if "setup" not in head:
        return None
    spec, pickled = head["setup"]
    return spec, base64.b64decode(pickled)
