"""The driver process: connects to Ray, keeps an actor on each node, and passes batches between the app and the actors.

It is started with one JSON argument, reads frames from its standard input and writes frames to its standard output. It
ends when its input does, and as soon as the cluster does not answer: then it is started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from lifepool.backends.ray import frames
from lifepool.backends.ray.frames import ALIVE, ATTACHED, BATCH, DOWN, LARGE, LOG, LOST, UP, Frame

if TYPE_CHECKING:
    from lifepool.backends.ray.local import LocalRay

#: Where actors have their names.
NAMESPACE = "lifepool"
#: Seconds between two looks at which nodes there are; they notice a cluster that is gone or hangs, too.
LOOK_S = 0.5
#: Seconds in which the cluster must answer, and in which a machine must accept a connection.
ANSWER_S = 1.5
#: The same for some time after something large: answers wait behind it.
ANSWER_BUSY_S = 15.0
#: Seconds for which connecting may take.
CONNECT_S = 40.0
#: The same with Ray's client, doubling with each attempt up to that: for some seconds after the start of a head, its
#: server for clients may let one wait for 40 s in vain, and the next one through at once.
CONNECT_CLIENT_S = 10.0
#: Seconds for which nodes may take to be attached at the start, before calls go through without them.
FIRST_NODES_S = 10.0
#: Seconds after which it is said that a node has not got its actor.
PATIENCE_S = 10.0
#: Seconds between two attempts to get an actor, doubling from the first to the last.
RETRY_FIRST_S, RETRY_LAST_S = 0.3, 10.0
#: Seconds that disconnecting may take, and ending a Ray that was started here.
DISCONNECT_S, END_LOCAL_S = 2.0, 10.0
#: Exchanges that a node is given at a time; Ray itself limits how many an actor has under way.
MOST_EXCHANGES = 100_000


class Gone(Exception):
    """The cluster does not answer."""


class Attached:
    """An actor that we know.

    Args:
        driver: Ours.
        number: Names it to the app.
        ray_node: Ray's id of its machine.
    """

    def __init__(self, driver: Driver, number: int, ray_node: str) -> None:
        self._driver = driver
        self.number: int = number
        self.is_settled: asyncio.Event = asyncio.Event()
        self._ray_node = ray_node
        self._actor: Any = None
        self._pending: list[Any] = []
        self.task: asyncio.Task[None] = asyncio.create_task(driver.guarded(self._keep()))

    def send(self, batch: bytes) -> None:
        """Send a batch to the actor; it is dropped if there is none."""
        if self._actor is not None:
            if len(batch) > LARGE:
                self._driver.start(self._send_large(self._actor, batch))
            else:
                self._pending.append(self._actor.exchange.remote(self._driver.client, batch))

    async def _send_large(self, actor: Any, batch: bytes) -> None:
        self._driver.notes_large()
        try:
            ref = await asyncio.to_thread(actor.exchange.remote, self._driver.client, batch)
        except Exception as error:  # as when the object store is full: the app finds out what got lost
            self._driver.log("warning", f"{len(batch)} bytes could not be sent to a node: {_in_one_line(error)}")
            ref = actor.hello.remote(self._driver.client, time.time())
            self._driver.put(Frame.about(ATTACHED, self.number, **await _answer(ref)))
            return
        if actor is self._actor:
            self._pending.append(ref)

    async def _keep(self) -> None:
        """Get the actor, use it until it is gone, and get the next."""
        pause, said = RETRY_FIRST_S, ""
        while True:
            try:
                actor = await self._placed()
                hello = await _answer(actor.hello.remote(self._driver.client, time.time()))
            except Exception as error:
                self.is_settled.set()
                reason = _in_one_line(error)
                if reason != said:
                    self._driver.log("warning", f"a node of Ray has no actor yet: {reason}")
                said, pause = reason, min(2 * pause, RETRY_LAST_S)
            else:
                pause, said = RETRY_FIRST_S, ""
                self._actor = actor
                await self._use(hello)
            await asyncio.sleep(pause)

    async def _placed(self) -> Any:
        """Return the actor of this node; it is made if there is none."""
        waiting = asyncio.get_running_loop().call_later(PATIENCE_S, self._say_that_it_waits)
        try:
            actor = await asyncio.to_thread(self._driver.place, self._ray_node)
            await _answer(actor.__ray_ready__.remote())
            return actor
        finally:
            waiting.cancel()

    def _say_that_it_waits(self) -> None:
        self.is_settled.set()
        message = "a node of Ray has not started its actor yet: are its CPUs free? Else give cpus=... in the URL"
        self._driver.log("warning", message)

    async def _use(self, hello: dict[str, Any]) -> None:
        """Exchange batches until the actor is gone."""
        while True:
            self._driver.put(Frame.about(ATTACHED, self.number, **hello))
            self._pending = []
            self.is_settled.set()
            try:
                await self._exchange()
            except Exception as error:
                found = await self._found_again(error)
            if isinstance(found, str):
                self._actor = None
                self._driver.put(Frame.about(LOST, self.number, reason=found))
                return
            hello = found

    async def _exchange(self) -> None:
        """Have an exchange pending at all times; raise what one fails with."""
        while True:
            if not self._pending:
                self.send(b"")
            data = await _answer(self._pending[0])
            del self._pending[0]
            if len(data) > LARGE:
                self._driver.notes_large()
            await self._driver.put_and_wait(Frame(BATCH, self.number, data))

    async def _found_again(self, error: Exception) -> dict[str, Any] | str:
        """Return what the actor says after an exchange has failed; or why it is gone."""
        import ray

        while not isinstance(error, ray.exceptions.ActorDiedError):
            await asyncio.sleep(RETRY_FIRST_S)
            try:
                hello: dict[str, Any] = await _answer(self._actor.hello.remote(self._driver.client, time.time()))
            except Exception as failure:
                error = failure
            else:
                return hello
        return _in_one_line(error)

    async def leave(self) -> None:
        """Say goodbye."""
        if self._actor is not None:
            await _answer(self._actor.leave.remote(self._driver.client))


class Driver:
    """Pass batches between the app and the nodes.

    Args:
        settings: The JSON argument: ``client``, ``address`` (``ray://host:port``; None for this machine), ``queue``,
            ``cpus``, and ``slow_starts``, the attempts to connect that came to nothing just before.
        out: Where frames go.
    """

    def __init__(self, settings: dict[str, Any], out: asyncio.StreamWriter) -> None:
        self.client: str = settings["client"]
        self._address: str | None = settings["address"]
        self._queue: str = settings["queue"]
        self._cpus: int | None = settings["cpus"]
        by_client = (self._address or "").startswith("ray://")
        self._connect_s = min(CONNECT_S, CONNECT_CLIENT_S * 2 ** settings["slow_starts"]) if by_client else CONNECT_S
        self._out = out
        self._nodes: dict[str, Attached] = {}
        self._by_number: dict[int, Attached] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[str] = self._loop.create_future()
        self._local: LocalRay | None = None
        self._input_ended = False
        self.large_at: float = float("-inf")  # the instant at which something large was last on its way
        self._looker = ThreadPoolExecutor(1)  # of its own: others may wait long for actors

    # -- to the app -----------------------------------------------------------------------------------------------

    def put(self, frame: Frame) -> None:
        """Write a frame."""
        frames.write(self._out, frame)

    async def put_and_wait(self, frame: Frame) -> None:
        """Write a frame, and wait while the app is behind."""
        frames.write(self._out, frame)
        await self._out.drain()

    def log(self, level: str, message: str) -> None:
        """Have the app log something."""
        self.put(Frame.about(LOG, level=level, message=message))

    # -- life -----------------------------------------------------------------------------------------------------

    async def run(self, reader: asyncio.StreamReader) -> int:
        """Run until the input ends, or the cluster does not answer; return the exit code."""
        reading = asyncio.create_task(self.guarded(self._read(reader)))
        working = asyncio.create_task(self.guarded(self._work()))
        self.start(self._live())
        futures: list[asyncio.Future[Any]] = [reading, working, self._failed]
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if self._input_ended:  # whatever else happens meanwhile: a Ray that was started here has to be ended
            await self._end()
            return 0
        self.put(Frame.about(DOWN, reason=self._failed.result()))
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._out.drain()
        return 1

    def start(self, work: Any) -> None:
        """Do something beside."""
        task = asyncio.create_task(self.guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def guarded(self, work: Any) -> None:
        """Do it; what it fails with ends this process."""
        try:
            await work
        except Exception as error:
            if not self._failed.done():
                self._failed.set_result(_in_one_line(error))

    async def _live(self) -> None:
        while True:
            self.put(Frame(ALIVE))
            await asyncio.sleep(LOOK_S)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                frame = await frames.read(reader)
                if (node := self._by_number.get(frame.node)) is not None:
                    node.send(frame.data)
        self._input_ended = True

    async def _end(self) -> None:
        """Say goodbye, as far as that goes quickly."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                await asyncio.gather(*(node.leave() for node in self._nodes.values()), return_exceptions=True)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(DISCONNECT_S if self._local is None else END_LOCAL_S):
                await asyncio.to_thread(_disconnect if self._local is None else self._local.end)

    # -- the cluster ----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        if self._address is not None:
            await asyncio.to_thread(_probe, self._address)
        async with _within(self._connect_s, "it does not let us connect"):
            await asyncio.to_thread(self._connect)
        await self._look()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_NODES_S):
                for node in list(self._nodes.values()):
                    await node.is_settled.wait()
        self.put(Frame(UP))
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    def _connect(self) -> None:
        import ray

        if self._address is None:
            from lifepool.backends.ray.local import LocalRay

            self._local = LocalRay(self.log_from_thread)
            self._local.connect(NAMESPACE)
        else:
            ray.init(self._address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        module = importlib.import_module("lifepool.nodes.ray_node")  # programs of nodes are above the engines
        self._actor_class = ray.remote(module.RayNode)

    def notes_large(self) -> None:
        """Take note that something large is on its way."""
        self.large_at = self._loop.time()

    def log_from_thread(self, level: str, message: str) -> None:
        """Have the app log something, from any thread."""
        self._loop.call_soon_threadsafe(self.log, level, message)

    async def _look(self) -> None:
        """Attach nodes that have come, and let go those that have left."""
        import ray

        is_busy = self._loop.time() - self.large_at < ANSWER_BUSY_S
        async with _within(ANSWER_BUSY_S if is_busy else ANSWER_S, "it does not answer"):
            try:
                nodes = await self._loop.run_in_executor(self._looker, ray.nodes)
            except Exception as error:  # what Ray's client says then is that Ray was never started
                raise Gone(f"it answers no more: {_in_one_line(error)}") from error
        alive = {node["NodeID"]: node for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1}
        self._resources = {id: int(node["Resources"]["CPU"]) for id, node in alive.items()}
        for id in alive.keys() - self._nodes.keys():
            number = len(self._by_number) + 1
            self._nodes[id] = self._by_number[number] = Attached(self, number, id)
        for id in self._nodes.keys() - alive.keys():
            gone = self._nodes.pop(id)
            gone.task.cancel()
            self.put(Frame.about(LOST, gone.number, reason="Ray has given up its machine"))

    def place(self, ray_node: str) -> Any:
        """Return the actor of a node, which all clients share; it is made if there is none. It may block."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        cpus = min(self._cpus or self._resources[ray_node], self._resources[ray_node])
        return self._actor_class.options(
            name=f"{self._queue}:{ray_node}",
            get_if_exists=True,
            lifetime="detached",
            num_cpus=cpus,
            max_restarts=0,
            max_concurrency=MOST_EXCHANGES,
            scheduling_strategy=NodeAffinitySchedulingStrategy(ray_node, soft=False),
        ).remote(cpus)


@contextlib.asynccontextmanager
async def _within(seconds: float, what: str) -> Any:
    """Give it so many seconds. The thread that it is done in may go on: this process ends."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Gone(what) from None


def _disconnect() -> None:
    """Have Ray end at once what it has for us on the head."""
    import ray

    ray.shutdown()


async def _answer(ref: Any) -> Any:
    """Return what a method of an actor returns. If this is cancelled, Ray is not told: it would stumble over that."""
    return await asyncio.shield(asyncio.wrap_future(ref.future()))


def _probe(address: str) -> None:
    """Find out quickly whether somebody listens: Ray takes its time to say that there is nobody."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 500 else f"{text[:250]} ... {text[-250:]}"


async def _main(settings: dict[str, Any], output: int) -> int:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(output, "wb"))
    return await Driver(settings, asyncio.StreamWriter(transport, protocol, None, loop)).run(reader)


def main() -> None:
    """Run, and end at once: threads of Ray may hang."""
    output = os.dup(1)
    os.dup2(2, 1)  # what Ray prints is no frame
    sys.argv[0] = os.path.join(os.getcwd(), "lifepool")  # workers of this machine get its folder on their path
    code = 1
    try:
        code = asyncio.run(_main(json.loads(sys.argv[1]), output))
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
