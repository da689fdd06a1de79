"""Open-loop load: requests leave at their scheduled instants, whether or not answers came back.

Latency counts from the scheduled instant. A generator that waits for an answer before it sends the
next request slows down together with a stalled server and then leaves out of its figures just the
requests that would have waited ("coordinated omission").
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.client import Client, Response


@dataclass
class Record:
    """What became of the requests of one stream.

    Attributes:
        latencies: seconds from the scheduled instant to the answer, of the right answers.
        errors: how often each kind of failure happened; ``"TimeoutError"`` is a lost request.
        late: seconds that each request left after its instant: the generator's own fault.
    """

    latencies: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """Return how many requests were sent, answered or not."""
        return len(self.late)

    def add_error(self, kind: str) -> None:
        """Count a failure."""
        self.errors[kind] = self.errors.get(kind, 0) + 1


@dataclass(frozen=True)
class Stream:
    """Requests at a fixed rate.

    Attributes:
        requests: sent in turn, again and again.
        is_right: given the index in ``requests`` and the answer, tells whether it is right.
        rate: requests per second.
        duration: seconds during which requests leave.
        timeout: seconds, from leaving, after which a request counts as lost.
    """

    requests: Sequence[bytes]
    is_right: Callable[[int, Response], bool]
    rate: float
    duration: float
    timeout: float

    async def play(self, client: Client) -> Record:
        """Send every request at its instant, and wait for all their answers or timeouts."""
        record = Record()
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(max(1, round(self.rate * self.duration))):
                scheduled = start + number / self.rate
                await asyncio.sleep(max(0.0, scheduled - time.perf_counter()))
                group.create_task(self._send(client, number, scheduled, record))
        return record

    async def _send(self, client: Client, number: int, scheduled: float, record: Record) -> None:
        index = number % len(self.requests)
        record.late.append(time.perf_counter() - scheduled)
        try:
            response = await client.send(self.requests[index], self.timeout)
        except OSError as error:  # TimeoutError is one
            record.add_error(type(error).__name__)
            return
        if self.is_right(index, response):
            record.latencies.append(time.perf_counter() - scheduled)
        else:
            record.add_error(f"wrong answer, status {response.status}")
