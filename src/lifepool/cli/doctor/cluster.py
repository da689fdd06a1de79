"""Try the whole path to a cluster, step by step: each says what is wrong and what to do; what needs it is left out."""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from typing import TYPE_CHECKING

import lifepool
from lifepool.backends.remote.availability import NO_CONNECTION_YET
from lifepool.backends.remote.urls import SECRET_VARIABLE, make_remote_backend, parse, signer_for
from lifepool.cli.doctor import selftest_tasks
from lifepool.cli.doctor.findings import Finding, describe_error, fail, ok, warn
from lifepool.cli.doctor.selftest import plain_pool, without_warnings
from lifepool.cli.summary import Spread
from lifepool.cli.units import time_text
from lifepool.cli.versions import package_versions
from lifepool.errors import BackendUnsupported, PoolError, TaskTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from lifepool.pool import Pool
    from lifepool.statistics import ClusterStatistics, NodeSnapshot

#: What a node has to allow for all steps: functions that do nothing, and one that hangs.
PROBES = selftest_tasks.__name__
ROUND_TRIPS = 20
HANG_TIMEOUT_S = 0.5
#: Seconds within which a timeout is answered for, and its slot on the node is free again.
LATE_S, FREE_S = 0.5, 2.0
#: Seconds by which clocks may differ before it is worth a word: logs of two machines can't be put in order then.
OFFSET_S = 1.0
#: Nodes that are reported one by one.
MOST_NODES = 10
#: Seconds for which the start waits for nodes, whose absence is looked at later; and, when there is no connection or no
#: node, for which that may change. Each of the two has as long as a pool's start would wait for nodes, if that is more.
START_S, GRACE_S = 1.0, 3.0
#: Seconds between two looks at what changes by itself.
LOOK_S = 0.05


async def check_cluster(text: str, timeout: float) -> AsyncIterator[Finding]:
    """Try the path to a cluster.

    Args:
        text: Its URL.
        timeout: Seconds for each step.
    """
    wrong = False
    for finding in _check_url(text):
        wrong = wrong or finding.status == "fail"
        yield finding
    if wrong:
        return
    backend = make_remote_backend(text)
    patience = max(GRACE_S, min(timeout, backend.wait_for_nodes_s))
    backend.wait_for_nodes_s = min(START_S, backend.wait_for_nodes_s)
    pool = plain_pool(backend=backend, name="doctor", start_timeout=timeout)
    with without_warnings():
        try:
            async with asyncio.timeout(timeout):
                await pool.start()
        except (PoolError, OSError, TimeoutError) as error:
            yield fail("broker", *describe_error(error))
            return
        try:
            async for finding in _check_pool(pool, timeout, patience):
                yield finding
        finally:
            await pool.aclose(0)


def _check_url(text: str) -> Iterator[Finding]:
    """Report what can be told before anything is connected to."""
    try:
        url = parse(text)
    except BackendUnsupported as error:
        yield fail("engine", *describe_error(error))
        return
    except ValueError as error:
        yield fail("URL", str(error), "correct it: it has the form celery+redis://:password@host:6379/0?queue=name")
        return
    yield ok("URL", f"{url.scheme}, at {url.where}, queue {url.queue!r}")
    package = url.engine.package
    versions = " ".join(f"{name} {number}" for name, number in package_versions([package]).items())
    yield ok("engine", f"{versions or package} is installed")
    try:
        has_secret = signer_for(url).has_secret
    except BackendUnsupported as error:
        yield fail("secret", *describe_error(error))
        return
    yield ok("secret", f"{SECRET_VARIABLE} is set" if has_secret else "none: this engine needs none at this address")


async def _check_pool(pool: Pool, timeout: float, patience: float) -> AsyncIterator[Finding]:
    cluster = await _settled(pool, timeout, patience)
    if not cluster.connected:
        fix = "is it up, and do host, port, password and firewall let this machine through?"
        yield fail("broker", f"{cluster.address}: {cluster.unavailable or NO_CONNECTION_YET}", fix)
        return
    yield ok("broker", f"{cluster.address} answers")
    if not cluster.nodes:
        yield _no_nodes(cluster)
        return
    for check in (_nodes, _versions, _clocks, _allowed):
        for finding in check(cluster):
            yield finding
    if not cluster.slots or not any(node.allow for node in cluster.nodes):
        return  # no call can come through
    finding, is_run = await _round_trip(pool, timeout)
    yield finding
    if finding.status == "fail":
        return
    if is_run:
        yield await _deadline(pool)
    else:
        seen = "not tried: it takes a task that hangs, and the nodes don't run the doctor's"
        yield warn("deadline", seen, f"to try it, start a node with --allow {PROBES} as well")


def _cluster(pool: Pool) -> ClusterStatistics:
    cluster = pool.statistics().cluster
    assert cluster is not None  # noqa: S101 - its backend is that of a cluster
    return cluster


async def _settled(pool: Pool, timeout: float, patience: float) -> ClusterStatistics:
    """Wait until a node was heard of, or it is known why not; then for others, for two beats of a node.

    Args:
        pool: It has started.
        timeout: Seconds for a node, or the reason why there is none.
        patience: Seconds for a first connection, and then for a first node: some engines start a process for each.
    """
    await _until(lambda: bool(_cluster(pool).nodes) or _cluster(pool).unavailable is not None, timeout)
    await _until(lambda: not (_cluster(pool).unavailable or "").endswith(NO_CONNECTION_YET), patience)
    await _until(lambda: bool(_cluster(pool).nodes or _cluster(pool).refused), patience)
    if _cluster(pool).refused:
        await _until(lambda: bool(_cluster(pool).nodes), GRACE_S)  # others may be as they should
    if _cluster(pool).nodes:
        await asyncio.sleep(1.0)
    return _cluster(pool)


async def _until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_S)
    return True


def _no_nodes(cluster: ClusterStatistics) -> Finding:
    if cluster.refused.get("unsigned"):
        seen = "there are nodes, and they sign with another secret"
        return fail("secret", seen, f"set {SECRET_VARIABLE} to the same text here and for all nodes")
    if cluster.refused:
        seen = f"there are nodes, and their messages are refused: {', '.join(cluster.refused)}"
        return fail("nodes", seen, "run the same version of lifepool here and on all nodes")
    fix = "start one with this URL: lifepool worker --backend URL --allow MODULE; is its queue the same?"
    return fail("nodes", "none was heard of", fix)


def _nodes(cluster: ClusterStatistics) -> Iterator[Finding]:
    draining = sum(node.state == "draining" for node in cluster.nodes)
    yield ok(
        "nodes", f"{len(cluster.nodes)} with {cluster.slots} slots" + (f", {draining} draining" if draining else "")
    )
    for node in cluster.nodes[:MOST_NODES]:
        workers = ", ".join(f"{count} {state}" for state, count in node.workers.items()) or "no worker is up"
        yield ok("node", f"{node.name}: {node.state}, {node.running} of {node.slots} slots in use, workers: {workers}")
    if not cluster.slots:
        yield fail("slots", "all nodes drain: none takes a call", "start others, or wait until these are back")


def _versions(cluster: ClusterStatistics) -> Iterator[Finding]:
    here, python = lifepool.__version__, platform.python_version_tuple()[:2]
    other = [node for node in cluster.nodes if node.lifepool != here]
    if other:
        fix = "install the same version of lifepool everywhere: nodes before apps, if they can't be changed at once"
        yield warn("versions", f"lifepool {here} here, {_each(other, lambda node: node.lifepool or 'older')}", fix)
    else:
        yield ok("versions", f"all nodes run lifepool {here}, as it does here")
    other = [node for node in cluster.nodes if node.python and tuple(node.python.split(".")[:2]) != python]
    if other:
        seen = f"Python {'.'.join(python)} here, {_each(other, lambda node: node.python)}"
        yield warn("python", seen, "run the same minor version everywhere: what is pickled here is rebuilt there")


def _each(nodes: list[NodeSnapshot], say: Callable[[NodeSnapshot], str]) -> str:
    shown = ", ".join(f"{say(node)} on {node.name}" for node in nodes[:MOST_NODES])
    return shown + (f", and {len(nodes) - MOST_NODES} more" if len(nodes) > MOST_NODES else "")


def _clocks(cluster: ClusterStatistics) -> Iterator[Finding]:
    off = [n for n in cluster.nodes if n.clock_offset_s is not None and abs(n.clock_offset_s) > OFFSET_S]
    if off:
        seen = _each(off, lambda node: f"{node.clock_offset_s or 0:+.1f} s")
        yield warn("clocks", seen, "set the clocks of all machines, with NTP for example")
    elif cluster.clock_offset_s is not None:
        yield ok("clocks", f"within {time_text(max(0.01, cluster.clock_offset_s))} of this machine's")


def _allowed(cluster: ClusterStatistics) -> Iterator[Finding]:
    nothing = [node for node in cluster.nodes if not node.allow]
    if nothing:
        seen = (
            f"nothing is allowed on {len(nothing)} of {len(cluster.nodes)} nodes: {nothing[0].name} refuses all calls"
        )
        yield fail("allow list", seen, "start it with --allow MODULE, the module of the functions that you call")
    lists = Counter(node.allow for node in cluster.nodes if node.allow)
    for allow, count in lists.most_common(MOST_NODES):
        yield ok(
            "allow list", f"{count} of {len(cluster.nodes)} nodes: {'all' if allow == ('*',) else ', '.join(allow)}"
        )
    if len(lists) > 1:
        fix = "start all nodes of a queue with the same --allow: a call may go to any of them"
        yield warn("allow list", "nodes of this queue run different functions", fix)


async def _round_trip(pool: Pool, timeout: float) -> tuple[Finding, bool]:
    """Call a node some times; return what was found, and whether it ran the calls. A refusal has made the same way."""
    seconds, refusal = [], ""
    try:
        for _ in range(ROUND_TRIPS):
            before = time.perf_counter()
            try:
                await pool.run(selftest_tasks.pid, timeout=timeout)
            except BackendUnsupported as error:
                if error.capability != "allow":
                    raise
                refusal = ", refused there: the nodes don't run the doctor's functions, which is as well"
            seconds.append(time.perf_counter() - before)
    except Exception as error:
        return fail("round trip", *describe_error(error)), False
    spread = Spread.of(seconds)
    seen = f"{time_text(spread.median)} to a node and back (median of {ROUND_TRIPS}){refusal}"
    return ok("round trip", seen), not refusal


async def _deadline(pool: Pool) -> Finding:
    """Have a task hang in C on a node, past its timeout."""
    began = time.perf_counter()
    try:
        await pool.run(selftest_tasks.hang, timeout=HANG_TIMEOUT_S)
    except TaskTimeout:
        late = time.perf_counter() - began - HANG_TIMEOUT_S
    except Exception as error:
        return fail("deadline", *describe_error(error))
    else:
        return fail("deadline", "a task that hangs got an answer", "report this with `lifepool doctor --json`")
    freed = time.perf_counter()
    if not await _until(lambda: _cluster(pool).taken == 0, FREE_S + LATE_S):
        seen = f"the caller was answered, and the node still has the task {FREE_S:g} s later"
        return fail("deadline", seen, "look at the node's log: can it end its workers?")
    took = time.perf_counter() - freed
    seen = f"TaskTimeout {time_text(max(0.0, late))} after it, and the node's slot was free {time_text(took)} later"
    if late > LATE_S or took > FREE_S:
        return warn("deadline", seen, "look at what else uses the CPUs, here and on the node")
    return ok("deadline", seen)
