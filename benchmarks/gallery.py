"""The examples before and after: ``python -m benchmarks.gallery`` measures each of ``examples/gallery`` in three ways.

``loop`` calls the function in an ``async def`` handler, as it is often written first. ``threads`` calls it in a ``def``
handler, which FastAPI runs in its thread pool. ``lifepool`` is the example as it stands. Eight clients ask again as
soon as they are answered; ``/health`` is asked 19 times a second meanwhile. Everything shares this machine's CPUs. It
takes two minutes a round, and writes ``results/gallery.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request

from benchmarks import environment
from benchmarks.client import Client, get
from benchmarks.load import Stream
from benchmarks.page import machine, table
from benchmarks.report import number
from benchmarks.result import RESULTS
from benchmarks.services import die_with_parent, serve
from examples.domains.listening import listen
from examples.gallery import samples
from lifepool.cli.processes import end_leader
from lifepool.cli.summary import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.client import Response

WAYS = ("loop", "threads", "lifepool")
CLIENTS, HEALTH_RATE = 8, 19
WARM_S, DURATION_S, PATIENCE_S, START_S, END_S = 1.0, 4.0, 30.0, 60.0, 10.0
JSON, BYTES = "application/json", "application/octet-stream"


@dataclass(frozen=True)
class Example:
    """One example: what is sent to it, and how its work is called without lifepool.

    Attributes:
        body: makes the request's body, once.
        before: given the example's module, returns what does the work of one request, from its body.
    """

    title: str
    path: str
    kind: str
    body: Callable[[], bytes]
    before: Callable[[Any], Callable[[bytes], Any]]


def _scoring_before(module: Any) -> Callable[[bytes], Any]:
    model = module.train()
    return lambda body: model.predict([json.loads(body)["pixels"]]).tolist()


EXAMPLES = {
    "pdf_text": Example(
        "text of a PDF of 5 pages", "/text", BYTES, lambda: samples.pdf(5), lambda module: module.text_of
    ),
    "thumbnails": Example(
        "thumbnail of a photo of 12 megapixels",
        "/thumbnail",
        BYTES,
        lambda: samples.photo(4000, 3000),
        lambda module: lambda body: len(module.thumbnail_of(body, 256)),
    ),
    "scoring": Example(
        "a forest's score of one picture",
        "/digit",
        JSON,
        lambda: json.dumps({"pixels": samples.digit()}).encode(),
        _scoring_before,
    ),
    "aggregation": Example(
        "sums of a CSV file of 20,000 rows",
        "/sums?by=shop&of=price",
        BYTES,
        lambda: samples.csv(20_000),
        lambda module: lambda body: module.sums_of(body, "shop", "price"),
    ),
    "markdown_pages": Example(
        "100 sections of Markdown to HTML",
        "/html",
        BYTES,
        lambda: samples.markdown(100),
        lambda module: lambda body: module.html_of(body.decode()),
    ),
    "passwords": Example(
        "a password's hash (scrypt)",
        "/hash",
        JSON,
        lambda: json.dumps({"password": "correct horse"}).encode(),
        lambda module: lambda body: module.hash_of(json.loads(body)["password"]),
    ),
}


def app_of(name: str, way: str) -> Any:
    """Return the example's app, or one that does the same work in another way."""
    module = importlib.import_module(f"examples.gallery.{name}")
    if way == "lifepool":
        return module.app
    example, app = EXAMPLES[name], FastAPI()
    work = example.before(module)

    async def body(request: Request) -> bytes:
        return await request.body()

    async def in_loop(data: bytes = Depends(body)) -> Any:
        return work(data)

    def in_thread(data: bytes = Depends(body)) -> Any:
        return work(data)

    async def health() -> str:
        return "ok"

    app.add_api_route(example.path.partition("?")[0], in_loop if way == "loop" else in_thread, methods=["POST"])
    app.add_api_route("/health", health)
    return app


def post(path: str, kind: str, body: bytes) -> bytes:
    """Return the bytes of a POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(frozen=True)
class Figures:
    """One measurement: requests a second, their median in seconds, and the 99th percentile of ``/health``."""

    rate: float
    p50: float
    health_p99: float


async def measure(name: str, way: str, duration: float, warm: float) -> Figures:
    """Start a server, ask it, and end it.

    Raises:
        RuntimeError: If it answers with something else than 200.
    """
    example = EXAMPLES[name]
    request = post(example.path, example.kind, example.body())
    with listen("127.0.0.1", 0) as listener:
        process = start_server(name, way, listener)
        client = Client(*listener.getsockname()[:2])
    try:
        await client.send(get("/health"), START_S)
        await ask(client, request, warm)
        health = Stream([get("/health")], lambda _, response: response.status == 200, HEALTH_RATE, duration, PATIENCE_S)
        latencies, record = await asyncio.gather(ask(client, request, duration), health.play(client))
    finally:
        client.close()
        await asyncio.to_thread(end_leader, process, END_S)
        if process.stdin is not None:
            process.stdin.close()
    late = sorted(record.latencies + [PATIENCE_S] * sum(record.errors.values()))
    return Figures(len(latencies) / duration, median(latencies), percentile(late, 0.99))


def start_server(name: str, way: str, listener: socket.socket) -> subprocess.Popen[bytes]:
    """Start a server in a process group of its own; it ends when its ``stdin`` closes."""
    command = [sys.executable, "-m", "benchmarks.gallery", "--serve", name, way, str(listener.fileno())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], process_group=0)


async def ask(client: Client, request: bytes, duration: float) -> list[float]:
    """Ask with eight clients for that long; return the seconds that each answer took."""
    latencies: list[float] = []
    end = time.perf_counter() + duration

    async def one() -> None:
        while (started := time.perf_counter()) < end:
            response: Response = await client.send(request, PATIENCE_S)
            if response.status != 200:
                raise RuntimeError(f"answer {response.status}: {response.body[:200]!r}")
            latencies.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(one())
    return latencies


def rows_of(found: dict[tuple[str, str], list[Figures]]) -> list[list[str]]:
    """Return the table: requests a second, and the wait of a health check, in each way."""
    head = ["eight clients", *(f"{way}, requests/s" for way in WAYS), *(f"{way}, `/health` p99 ms" for way in WAYS)]
    rows = [head]
    for name, example in EXAMPLES.items():
        if (name, WAYS[0]) not in found:
            continue
        own = [found[name, way] for way in WAYS]
        rates = [number(median(figures.rate for figures in each)) for each in own]
        waits = [number(1000 * median(figures.health_p99 for figures in each)) for each in own]
        rows.append([f"{example.title} (`{name}.py`)", *rates, *waits])
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table; or be one of the servers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__.partition("\n")[0])
    parser.add_argument("example", nargs="*", help=f"of {', '.join(EXAMPLES)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=DURATION_S)
    parser.add_argument("--output", help="the file to write; results/gallery.md if all examples are measured")
    parser.add_argument("--serve", nargs=3, metavar=("NAME", "WAY", "SOCKET"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        if os.getpgrp() == os.getpid():
            die_with_parent()
        name, way, descriptor = options.serve
        serve(app_of(name, way), socket.socket(fileno=int(descriptor)), "asyncio")
        return 0
    names = options.example or list(EXAMPLES)
    if unknown := set(names) - set(EXAMPLES):
        parser.error(f"there is no example {', '.join(sorted(unknown))}")
    found: dict[tuple[str, str], list[Figures]] = {}
    for index in range(options.rounds):
        for name in names:
            for way in random.Random(index).sample(WAYS, len(WAYS)):
                figures = asyncio.run(measure(name, way, options.seconds, min(WARM_S, options.seconds)))
                print(f"round {index + 1} {name} {way}: {figures}", file=sys.stderr, flush=True)
                found.setdefault((name, way), []).append(figures)
    text = table(rows_of(found))
    print(text)
    if options.output or not options.example:
        about = f"{machine({**environment.describe()})} Medians of {options.rounds} rounds."
        target = options.output or RESULTS / "gallery.md"
        with open(target, "w", encoding="utf-8") as file:
            file.write(f"# The examples before and after\n\n{about}\n\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
