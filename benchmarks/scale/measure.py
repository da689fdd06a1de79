"""Run real nodes on Celery and Redis, and take down what calls do and cost. It takes some minutes."""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.distributed.servers import end, redis
from benchmarks.scale.demands import MIB, RUNS
from lifepool import Pool
from lifepool.backends.remote.members import Members
from lifepool.backends.remote.messages import NODE, Message, Signer
from lifepool.backends.remote.sending import SMALL_BYTES

PASSES = 2
NODES = (1, 2, 4, 8)
WORKERS = 4
SLEEP_S = 0.05
RUN_S, LIGHT_S, PAYLOAD_S, IDLE_S = 3.0, 1.0, 1.5, 2.0
#: Seconds before each run that do not count: each worker has run something, and it is known how long that takes.
SETTLE_S = 0.6
#: An argument that is too large for its call to share a message.
APART = bytes(SMALL_BYTES + 1024)
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
ROOT = Path(__file__).resolve().parents[2]


class Bench:
    """The programs of a measurement, and their CPU time."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        self.url = f"celery+{address}?queue=scale"
        self._stack = stack
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._redis = _redis_client(address)

    def start_nodes(self, count: int) -> None:
        """Have so many nodes; what they log is dropped."""
        command = [
            sys.executable, "-m", "lifepool", "worker", "--backend", self.url, "--max-workers", str(WORKERS),
            "--allow", "time", "--allow", "builtins", "--drain-timeout", "1",
        ]  # fmt: skip
        while len(self._nodes) < count:
            node = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT)
            self._nodes.append(node)
            self._stack.callback(end, node)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each place has used so far, and, of the agents, the threads of Celery."""
        agents = {node.pid for node in self._nodes}
        parents = _processes()
        agent = sum(used for pid, (_, used) in parents.items() if pid in agents)
        worker = sum(
            used for pid, (_, used) in parents.items() if pid not in agents and _is_below(pid, agents, parents)
        )
        info = self._redis.info("cpu")
        server = info["used_cpu_user"] + info["used_cpu_sys"]
        engine = sum(_cpu_of(Path(f"/proc/{pid}/task/{pid}")) for pid in agents)
        return {"web": time.process_time(), "redis": server, "agent": agent, "worker": worker, "engine": engine}

    def messages(self) -> dict[str, int]:
        """Return how many messages of Celery's, and how many of answers, there have been so far."""
        commands = self._redis.info("commandstats")
        sent = {"calls": "lpush", "answers": "rpush"}
        return {what: commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for what, name in sent.items()}


def _redis_client(address: str) -> Any:
    from redis import Redis

    return Redis.from_url(address)


def _processes() -> dict[int, tuple[int, float]]:
    """Return the parent and the CPU seconds of each process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = int(_fields(entry)[1]), _cpu_of(entry)
            except OSError:
                continue
    return found


def _fields(entry: Path) -> list[str]:
    """Return what the system says about a process or a thread, from its state on."""
    return (entry / "stat").read_text().rpartition(")")[2].split()


def _cpu_of(entry: Path) -> float:
    fields = _fields(entry)
    return (int(fields[11]) + int(fields[12])) / TICK


def _is_below(pid: int, above: set[int], parents: dict[int, tuple[int, float]]) -> bool:
    while pid in parents:
        pid = parents[pid][0]
        if pid in above:
            return True
    return False


async def closed_loop(
    pool: Pool, window: int, seconds: float, call: tuple[Callable[..., Any], Any]
) -> tuple[list[float], float]:
    """Have so many calls under way all the time; return how long each took, and the seconds of it all."""
    fn, argument = call
    latencies: list[float] = []
    began = time.perf_counter()
    until = began + seconds

    async def one_after_another() -> None:
        while (before := time.perf_counter()) < until:
            await pool.run(fn, argument)
            latencies.append(time.perf_counter() - before)

    await asyncio.gather(*(one_after_another() for _ in range(window)))
    return latencies, time.perf_counter() - began


async def measured(bench: Bench, pool: Pool, case: str, nodes: int, window: int, seconds: float, *call: Any) -> Any:
    """Run a case; return its figures."""
    fn, argument = call
    await closed_loop(pool, window, SETTLE_S, (fn, argument))
    before, said_before = bench.cpu(), bench.messages()
    latencies, took = await closed_loop(pool, window, seconds, (fn, argument))
    after, said = bench.cpu(), bench.messages()
    cuts = statistics.quantiles(latencies, n=100)
    print(f"{case}, {nodes} nodes: {len(latencies) / took:.0f}/s, p50 {cuts[49] * 1e3:.2f} ms", file=sys.stderr)
    return {
        "case": case, "nodes": nodes, "workers": WORKERS, "window": window, "calls": len(latencies), "seconds": took,
        "rate": len(latencies) / took, "latency": {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98]},
        "cpu": {place: after[place] - before[place] for place in after},
        "messages": {what: said[what] - said_before[what] for what in said},
    }  # fmt: skip


async def run_all(bench: Bench) -> dict[str, Any]:
    """Run all cases with more and more nodes."""
    runs = []
    async with Pool(backend=bench.url, timeout=None, max_queue=100_000) as pool:
        for nodes in NODES:
            await asyncio.to_thread(bench.start_nodes, nodes)
            await _until_there(pool, nodes)
            window = 3 * nodes * WORKERS
            light = await measured(bench, pool, "one at a time", nodes, 1, LIGHT_S, time.sleep, 0)
            runs += [light, await measured(bench, pool, "no-op", nodes, window, RUN_S, time.sleep, 0)]
            runs.append(await measured(bench, pool, "no-op apart", nodes, window, RUN_S, len, APART))
            runs.append(await measured(bench, pool, "sleep", nodes, window, RUN_S, time.sleep, SLEEP_S))
            if nodes == 1:
                for name, size in (("payload 64 KiB", MIB // 16), ("payload 1 MiB", MIB)):
                    runs.append(await measured(bench, pool, name, nodes, window, PAYLOAD_S, bytes, bytes(size)))
        before = bench.cpu()
        await asyncio.sleep(IDLE_S)
        after = bench.cpu()
    return {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "sleep_s": SLEEP_S,
        "idle_s": (after["agent"] - before["agent"]) / IDLE_S / NODES[-1],
        "beat_s": cost_of_a_beat(),
        "runs": runs,
    }


async def _until_there(pool: Pool, nodes: int) -> None:
    async with asyncio.timeout(60):
        while True:
            cluster = pool.statistics().cluster
            if cluster is not None and cluster.slots == nodes * WORKERS:
                return
            await asyncio.sleep(0.05)


def cost_of_a_beat(times: int = 3000) -> float:
    """Return the seconds that a client takes for an announcement of a node: to verify it, and to note it."""
    signer, members = Signer("a secret"), Members()
    fields = {
        "node": "0123456789ab", "host": "worker-17", "pid": 4711, "slots": 4, "running": 4, "state": "ready",
        "refused": {}, "workers": {"busy": 4}, "versions": ["0.1.0", "3.11.7"], "allow": ["shop"], "time": time.time(),
    }  # fmt: skip
    packed = signer.sign(NODE, fields).pack()
    before = time.process_time()
    for _ in range(times):
        members.heard(signer.verify(Message.unpack(packed), NODE), 0.0)
    return (time.process_time() - before) / times


def better_of(passes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the passes as one: of each run the faster, for whatever disturbs a machine makes it slower."""
    runs = zip(*(found["runs"] for found in passes), strict=True)
    kept = [max(each, key=lambda run: run["rate"]) for each in runs]
    idle_s = sum(found["idle_s"] for found in passes) / len(passes)
    return {**passes[-1], "passes": len(passes), "idle_s": idle_s, "runs": kept}


def measure() -> None:
    """Measure, and write it down."""
    passes = []
    for _ in range(PASSES):
        with ExitStack() as stack:
            bench = Bench(stack.enter_context(redis()), stack)
            passes.append(asyncio.run(run_all(bench)))
    RUNS.write_text(json.dumps(better_of(passes), indent=1) + "\n", encoding="utf-8")
