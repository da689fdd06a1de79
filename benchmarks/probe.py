"""Ask a server's ``/health`` again and again from another process, as an orchestrator does.

The server is one handler on the event loop that is measured, and each request comes on a connection that is kept: what
is measured is how long the loop makes a request wait, and no framework.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
INTERVAL_S = 0.01
ANSWER_BOUND_S = 30.0


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
    except asyncio.IncompleteReadError:  # the client has gone
        writer.close()


@asynccontextmanager
async def health_probed(duration: float) -> AsyncIterator["asyncio.Future[list[float]]"]:
    """Serve ``/health`` on this event loop, and have another process ask it for so many seconds.

    Yields the seconds that each answer took, once there are all of them.
    """
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    command = (sys.executable, "-m", "benchmarks.probe", str(port), str(duration))
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)

    async def latencies() -> list[float]:
        output, _ = await child.communicate()
        samples: list[float] = json.loads(output)
        return samples

    answers = asyncio.ensure_future(latencies())
    try:
        yield answers
        await answers
    finally:
        answers.cancel()
        if child.returncode is None:
            child.kill()
        await child.wait()
        server.close()


def ask(port: int, duration: float) -> list[float]:
    """Return the seconds of each answer, counted from when it was due to be asked for."""
    samples: list[float] = []
    with socket.create_connection(("127.0.0.1", port), ANSWER_BOUND_S) as connection:
        due = time.perf_counter()
        end = due + duration
        while due < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.sendall(REQUEST)
            received = b""
            while not received.endswith(b"\r\n\r\nok"):
                piece = connection.recv(4096)
                if not piece:
                    raise ConnectionError("the server closed the connection")
                received += piece
            samples.append(time.perf_counter() - due)
            due += INTERVAL_S  # also if that has passed: who was due meanwhile has waited too
    return samples


if __name__ == "__main__":
    print(json.dumps(ask(int(sys.argv[1]), float(sys.argv[2]))))
