"""Send HTTP requests at their instants, whether or not answers came back: raw sockets on callbacks, no task a request.

``python -m benchmarks.flood.generator`` reads a ``Plan`` as JSON from its standard input and prints a ``Report``.
It pins itself to one CPU, and ends by itself: requests leave for ``duration`` seconds, answers are waited for at most
``patience`` seconds more.

Its limits: with uvloop, 4,000 requests of 20 kB a second have taken a quarter of a CPU. How late requests left
and how much of its CPU it has used is in the report: a run with ``late_p99`` near 0.1 s or ``cpu`` near 1 measures the
generator. It opens at most ``connections`` connections; a request that finds none free counts as lost, not as sent
later. Arrivals are random (exponential gaps with a fixed seed): independent clients come in clumps.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, cast

END_OF_HEAD = b"\r\n\r\n"
LOOK = 0.05  # seconds between two looks at who has waited too long


@dataclass(frozen=True)
class Plan:
    """What to send.

    Attributes:
        port: of the server on 127.0.0.1.
        bodies: JSON bodies, sent in a random order.
        path: where they are sent.
        rate: requests a second; 0: a closed loop, ``callers`` of which each asks again when it is answered.
        duration: seconds during which requests leave.
        callers: of a closed loop.
        patience: seconds after which a client goes away.
        connections: most that are open at a time.
        health: the path that is asked meanwhile, each time on a new connection.
        health_rate: how often, a second.
        cpu: the CPU to run on; -1: any.
        seed: of the arrivals.
    """

    port: int
    bodies: list[str]
    path: str = "/addContent"
    rate: float = 0.0
    duration: float = 3.0
    callers: int = 8
    patience: float = 10.0
    connections: int = 8000
    health: str = "/health"
    health_rate: float = 20.0
    cpu: int = -1
    seed: int = 1


@dataclass
class Report:
    """What became of it; times in seconds.

    Attributes:
        sent: requests that left.
        answers: how many there were of each status, and of each way to have none.
        good: latencies of 200, from the scheduled instant.
        refused: latencies of all other answers.
        health: latencies of ``/health``; a probe without the right answer counts with the patience.
        late_p99: by how much requests left after their instant.
        cpu: CPU time that the generator has used, by the time that passed.
        seconds: for which requests left.
        retry_after: smallest and largest that was advised.
        bodies: first right answer to each body.
    """

    sent: int = 0
    answers: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    good: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    late_p99: float = 0.0
    cpu: float = 0.0
    seconds: float = 0.0
    retry_after: list[int] = field(default_factory=list)
    bodies: dict[int, str] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self, flood: "Flood") -> None:
        self.flood = flood
        self.transport: asyncio.Transport | None = None
        self.scheduled = 0.0
        self.number = -1  # of the body that is under way; -1: idle
        self.is_busy = False
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, number: int, scheduled: float) -> None:
        """Send a request; its answer is noted when it comes."""
        self.number, self.scheduled, self.is_busy = number, scheduled, True
        self._received.clear()
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Note the answer once it is whole."""
        self._received += data
        head_end = self._received.find(END_OF_HEAD)
        if head_end < 0 or not self.is_busy:
            return
        head = bytes(self._received[:head_end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._received) < head_end + 4 + length:
            return
        self.is_busy = False
        body = bytes(self._received[head_end + 4 : head_end + 4 + length])
        self.flood.answered(self, int(head[9:12]), head, body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that there will be no answer."""
        self.flood.lost(self)


class Flood:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.report = Report()
        self._requests = [_post(plan.path, body.encode()) for body in plan.bodies]
        self._idle: list[Connection] = []
        self._open = 0
        self._waiting: deque[tuple[float, Connection, float]] = deque()  # gives up at, connection, scheduled
        self._under_way = 0
        self._late: list[float] = []
        self._source = random.Random(plan.seed)
        self._connecting: set[asyncio.Task[None]] = set()
        self._ends = 0.0

    async def run(self) -> Report:
        """Send all, and wait for what is still to come."""
        plan, started, cpu = self.plan, time.perf_counter(), time.process_time()
        self._ends = started + plan.duration
        probes = asyncio.create_task(self._probe_health(plan.duration))
        patience = asyncio.create_task(self._give_up())
        await (self._open_loop(started) if plan.rate else self._closed_loop())
        self.report.seconds = time.perf_counter() - started
        self.report.cpu = (time.process_time() - cpu) / self.report.seconds
        await patience  # until all have their answer, or have given up
        await probes
        while self._idle:
            if (transport := self._idle.pop().transport) is not None:
                transport.abort()
        await asyncio.sleep(0)  # the sockets are closed in the next turn
        self._late.sort()
        self.report.late_p99 = self._late[len(self._late) * 99 // 100] if self._late else 0.0
        return self.report

    async def _open_loop(self, scheduled: float) -> None:
        while (scheduled := scheduled + self._source.expovariate(self.plan.rate)) < self._ends:
            wait = scheduled - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            self._fire(scheduled)

    async def _closed_loop(self) -> None:
        for _ in range(self.plan.callers):
            self._fire(time.perf_counter())
        await asyncio.sleep(self.plan.duration)

    def _fire(self, scheduled: float) -> None:
        self.report.sent += 1
        number = self._source.randrange(len(self._requests))
        self._late.append(time.perf_counter() - scheduled)
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                self._send(connection, number, scheduled)
                return
        if self._open >= self.plan.connections:
            self.report.answers["no connection free"] += 1
            return
        task = asyncio.ensure_future(self._connect(number, scheduled))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _send(self, connection: Connection, number: int, scheduled: float) -> None:
        self._under_way += 1
        connection.send(self._requests[number], number, scheduled)
        self._waiting.append((scheduled + self.plan.patience, connection, scheduled))

    async def _connect(self, number: int, scheduled: float) -> None:
        self._open += 1
        self._under_way += 1
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.plan.patience):
                _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.plan.port)
        except OSError as error:
            self._open -= 1
            self.report.answers[f"connect: {type(error).__name__}"] += 1
            return
        finally:
            self._under_way -= 1
        self._send(connection, number, scheduled)

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        """Note an answer, and use the connection again."""
        self._under_way -= 1
        report, latency = self.report, time.perf_counter() - connection.scheduled
        report.answers[str(status)] += 1
        if status == 200:
            report.good.append(latency)
            if report.bodies.setdefault(connection.number, body.decode()) != body.decode():
                report.answers["wrong"] += 1
        else:
            report.refused.append(latency)
            if (at := head.find(b"retry-after:")) >= 0:
                report.retry_after.append(int(head[at + 12 :].split(b"\r\n", 1)[0]))
        if b"connection: close" in head:
            if connection.transport is not None:
                connection.transport.close()
        else:
            self._idle.append(connection)
        if not self.plan.rate and time.perf_counter() < self._ends:
            self._fire(time.perf_counter())

    def lost(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        self._open -= 1
        if connection.is_busy:
            connection.is_busy = False
            self._under_way -= 1
            self.report.answers["connection lost"] += 1

    async def _give_up(self) -> None:
        """Give up what has waited too long, until nothing is under way any more."""
        while (now := time.perf_counter()) < self._ends or self._under_way:
            while self._waiting and self._waiting[0][0] <= now:
                _, connection, scheduled = self._waiting.popleft()
                if connection.is_busy and connection.scheduled == scheduled and connection.transport is not None:
                    connection.is_busy = False
                    self._under_way -= 1
                    self.report.answers["gave up"] += 1
                    connection.transport.abort()
            await asyncio.sleep(LOOK)

    async def _probe_health(self, duration: float) -> None:
        started, plan = time.perf_counter(), self.plan
        async with asyncio.TaskGroup() as group:
            for number in range(int(duration * plan.health_rate)):
                await asyncio.sleep(max(0.0, started + number / plan.health_rate - time.perf_counter()))
                group.create_task(self._probe())

    async def _probe(self) -> None:
        began, plan = time.perf_counter(), self.plan
        answer = b""
        try:
            async with asyncio.timeout(plan.patience):
                reader, writer = await asyncio.open_connection("127.0.0.1", plan.port)
                try:
                    writer.write(f"GET {plan.health} HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n".encode())
                    answer = await reader.read(1 << 16)
                    latency = time.perf_counter() - began
                finally:
                    writer.close()
        except OSError as error:
            self.report.answers[f"health: {type(error).__name__}"] += 1
        is_right = answer.startswith(b"HTTP/1.1 200")
        if answer and not is_right:
            self.report.answers[f"health: {answer[9:12].decode()}"] += 1
        self.report.health.append(latency if is_right else plan.patience)


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> None:
    """Run the plan on standard input."""
    plan = Plan(**json.load(sys.stdin))
    if plan.cpu >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {plan.cpu})

    async def run() -> dict[str, Any]:
        report = await Flood(plan).run()
        return vars(report)

    try:
        import uvloop
    except ImportError:
        report = asyncio.run(run())
    else:
        report = uvloop.run(run())
    with open(1, "w", closefd=False) as output:  # buffered even under python -u, which may lose the end of a long text
        json.dump(report, output)


if __name__ == "__main__":
    main()
