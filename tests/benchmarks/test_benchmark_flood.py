"""The flood: the generator counts what it is answered, ends by itself, and the table has a row for each step."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys

import pytest

from benchmarks.flood.__main__ import COLUMNS
from benchmarks.flood.generator import Flood, Plan
from benchmarks.flood.servers import BARE, REFUSES_ALL

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nRetry-After: 7\r\n\r\nbusy"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first body, refuse the second, never answer the third."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = b"1" if head.startswith(b"GET") else await reader.readexactly(1)
            if body != b"3":
                writer.write(FINE if body == b"1" else BUSY)
    except (asyncio.IncompleteReadError, ConnectionError):  # the client has gone
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_each_request_is_counted_once() -> None:
    handlers: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.ensure_future(_answers(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        report = await Flood(Plan(port, ["1", "2", "3"], rate=200, duration=0.5, patience=5.0)).run()
        await asyncio.wait(handlers)  # all their clients have gone
    requests = {kind: count for kind, count in report.answers.items() if not kind.startswith("health")}
    assert set(requests) == {"200", "503", "gave up"}
    assert sum(requests.values()) == report.sent > 50
    assert len(report.good) == requests["200"]
    assert len(report.refused) == requests["503"]
    assert report.retry_after == [7] * requests["503"]
    assert report.health
    assert max(report.health) < 5.0


@pytest.mark.parametrize("variant", [BARE, REFUSES_ALL])
def test_the_table_has_a_row_for_each_step(variant: str) -> None:
    command = [sys.executable, "-m", "benchmarks.flood", "--server", variant, "--texts", "2000"]
    done = subprocess.run(
        [*command, "--factors", "0.1,0.2", "--seconds", "0.3"], capture_output=True, text=True, timeout=60, check=True
    )
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[2:]]
    assert [row[2].strip() for row in rows][-3:] == ["0.1x", "0.2x", "0.2x after"]
    assert all(len(row) == len(COLUMNS) for row in rows)
