"""Metrics for Prometheus: ``pool.add_hook(PrometheusHook())``, and ``exposition()`` for whoever asks for them.

Counting costs a task one addition; all else is taken from the pool's statistics when somebody asks. In the client's
multiprocess mode (``PROMETHEUS_MULTIPROC_DIR`` is set: several server processes) it is also put into its files, about
once a second and when the pool ends.

Counters never go backwards: not when a pool is started again, nor when the hook is removed. Gauges are gone then.

How values are kept in the client's files is modelled on its own ``Counter``, ``Gauge`` and ``Histogram``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import weakref
from collections import Counter
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

try:
    from prometheus_client import REGISTRY, CollectorRegistry, values
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector
    from prometheus_client.utils import floatToGoString
except ImportError as _error:  # pragma: no cover - needs an environment without it
    raise ImportError(
        "lifepool.instrumentation.prometheus needs prometheus-client: pip install 'lifepool[prometheus]'"
    ) from _error

from lifepool._engine.rate_limiter import RateLimiter
from lifepool._inside import state
from lifepool.hooks import Hook, TaskRecord
from lifepool.instrumentation.jobs import JOB_METRICS, has_jobs, job_gauges
from lifepool.instrumentation.lag import LagMeter
from lifepool.instrumentation.metrics import (
    CLUSTER_METRICS,
    METRICS,
    OTHER,
    Gauges,
    MetricStore,
    PoolCounters,
    Totals,
    Window,
    gauges,
    together,
)
from lifepool.instrumentation.process_files import (
    folder,
    forget_dead_processes,
    remove_files_of_earlier_servers,
    written_files,
)
from lifepool.instrumentation.routing import ROUTING_METRICS, routing_counters, routing_gauges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.core import Metric as Family

    from lifepool.hooks import WatchedPool
    from lifepool.instrumentation.metrics import Labels, Metric
    from lifepool.statistics import HistogramSnapshot

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds between two writes to the files of the multiprocess mode.
WRITE_S = 1.0
#: Writes after which memory is looked at anew: that reads a file of each worker, some 50 µs each, on the event loop.
MEMORY_EVERY = 5
#: Seconds that a scrape in another thread waits for the loop. One that is blocked for longer is shown as it was before.
REFRESH_TIMEOUT_S = 1.0
#: Times that a scrape reads the files, if meanwhile some of them are removed.
READ_ATTEMPTS = 10
_name_and_outcome = attrgetter("name", "outcome")


class PrometheusHook(Hook):
    """Export the metrics of a pool; see ``docs/reference/metrics.md``.

    One hook watches one pool. Pools are distinguished by the label ``pool``, the pool's ``name``; of several pools with
    the same name the sums are shown.

    Args:
        registry: Where to show it. In multiprocess mode all goes through the files, whatever is given here.
        max_task_names: Functions that get a label of their own, first come first served; the rest is ``other``.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, max_task_names: int = 100) -> None:
        self.gauges: Gauges = {}
        self.pool: WatchedPool | None = None  # while it runs
        self._exporter = _exporter_for(registry)
        self._most_names = max_task_names
        self._names: set[str] = set()
        self._counts: Counter[tuple[str, str | None]] = Counter()  # since they were recorded
        self._most_counts = 10 * max_task_names  # names without end take no memory without end
        self._lag = LagMeter()
        self._timer: asyncio.TimerHandle | None = None
        self._memory: int | None = None
        self._writes = 0

    # -- what the pool reports --------------------------------------------------------------------------------------

    def pool_started(self, pool: WatchedPool) -> None:
        """Show the pool from now on.

        Raises:
            ValueError: If another hook shows it already, or this one another pool.
        """
        if self.pool not in (None, pool) or any(hook.pool is pool for hook in self._exporter.hooks if hook is not self):
            raise ValueError("one PrometheusHook watches one pool, and one is enough for it")
        self.pool = pool
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._window = Window()
        self._counters = PoolCounters(pool.config.name, self._exporter.store)
        statistics, name = pool.statistics(), pool.config.name
        self._counters.begin(statistics, self._lag.snapshot(), routing_counters(name, statistics.routing))
        if self not in self._exporter.hooks:
            self._exporter.hooks.append(self)
        self._lag.start()
        if isinstance(self._exporter, _FileExporter):
            self._exporter.clean_up()
            self._plan_write(self._exporter)
        self.look()

    def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
        """Count the tasks by name and outcome."""
        self._counts.update(map(_name_and_outcome, tasks))
        if len(self._counts) > self._most_counts:
            self._record_counts()

    def pool_closed(self, pool: WatchedPool) -> None:
        """Write the last numbers: the pool's gauges are gone, its counters stay."""
        if pool is not self.pool:
            return
        self._lag.stop()
        if self._timer is not None:
            self._timer.cancel()
        self.look()
        self._exporter.hooks.remove(self)
        self.pool = None
        self.gauges = {}
        self._exporter.show()

    # -- looking at it --------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Bring the numbers up to date. May be called from any thread."""
        if self.pool is None:
            return
        if threading.get_ident() == self._thread:
            self.look()
            return
        looked = threading.Event()
        with contextlib.suppress(RuntimeError):  # the loop is closed: then there is nothing new
            self._loop.call_soon_threadsafe(self._look_for, looked)
            looked.wait(REFRESH_TIMEOUT_S)

    def look(self) -> None:
        """Add what came since the last update. Called on the pool's loop."""
        pool = self.pool
        if pool is None:
            return
        pool.tell_hooks()
        statistics, name = pool.statistics(), pool.config.name
        self._counters.record(statistics, self._lag.snapshot(), routing_counters(name, statistics.routing))
        self._record_counts()
        if not self._writes % MEMORY_EVERY:
            self._memory = _memory_of(pool)
        utilisation = self._window.utilisation(statistics, time.monotonic())
        self.gauges = gauges(name, statistics, utilisation, self._memory) | routing_gauges(name, statistics.routing)

    def _look_for(self, looked: threading.Event) -> None:
        try:
            self.look()
        finally:
            looked.set()

    def _record_counts(self) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for (name, outcome), count in self._counts.items():
            if name not in self._names and len(self._names) < self._most_names:
                self._names.add(name)
            counts[name if name in self._names else OTHER, str(outcome)] += count
        self._counters.tasks(counts)
        self._counts.clear()

    def _plan_write(self, files: _FileExporter) -> None:
        self._timer = self._loop.call_later(WRITE_S, self._write, files)

    def _write(self, files: _FileExporter) -> None:
        self._writes += 1
        self.look()
        files.show()
        self._plan_write(files)


def _memory_of(pool: WatchedPool) -> int | None:
    known = [worker.memory_bytes for worker in pool.workers() if worker.memory_bytes is not None]
    return sum(known) if known else None


# -- where the numbers are shown --------------------------------------------------------------------------------------


class _Exporter(Protocol):
    """What keeps the numbers of hooks, and exports them."""

    hooks: list[PrometheusHook]
    store: MetricStore

    def show(self) -> None:
        """Export the hooks' gauges as they are now, where nobody asks for them."""


_registered: weakref.WeakKeyDictionary[CollectorRegistry, _RegistryExporter] = weakref.WeakKeyDictionary()
_files: _FileExporter | None = None


def _exporter_for(registry: CollectorRegistry) -> _Exporter:
    """Return the exporter of this registry or, in multiprocess mode, of this process."""
    global _files
    if is_multiprocess():
        _files = _files or _FileExporter()
        return _files
    if registry not in _registered:
        _registered[registry] = _RegistryExporter()
        registry.register(_registered[registry])
    return _registered[registry]


def is_multiprocess() -> bool:
    """Tell whether the client keeps its values in files; ``PROMETHEUS_MULTIPROC_DIR`` decides when it is imported."""
    return bool(values.ValueClass._multiprocess)


class _RegistryExporter(Collector):
    """Keep the totals in memory; collected when the registry is scraped."""

    def __init__(self) -> None:
        self.hooks: list[PrometheusHook] = []
        self._totals = Totals()
        self.store: MetricStore = self._totals

    def show(self) -> None:
        """Do nothing: the registry asks when it is scraped."""

    def describe(self) -> Iterable[Family]:
        """Return the names alone, so that registering collects nothing."""
        return [_family(metric) for metric in (*METRICS, *CLUSTER_METRICS, *ROUTING_METRICS, *JOB_METRICS)]

    def collect(self) -> Iterator[Family]:
        """Bring every pool up to date and show it."""
        return _families(self.hooks, self._totals)


def _families(hooks: Sequence[PrometheusHook], totals: Totals) -> Iterator[Family]:
    """Yield what one process knows."""
    hooks = list(hooks)
    for hook in hooks:
        hook.refresh()
    shown = together(hook.gauges for hook in hooks)
    for metric in (*METRICS, *CLUSTER_METRICS, *ROUTING_METRICS):
        family = _family(metric)
        for labels, total in totals.counters(metric):
            family.add_metric(labels, total)
        for labels, observed in totals.histograms(metric):
            family.add_metric(labels, _buckets(observed), observed.sum)
        for (each, labels), value in shown.items():
            if each is metric:
                family.add_metric(labels, value)
        if family.samples or metric in METRICS:
            yield family
    yield from _job_families(hooks)


def _job_families(hooks: Sequence[PrometheusHook]) -> Iterator[Family]:
    """Yield what the stores of jobs say; nothing if there are none."""
    pools = [hook.pool for hook in list(hooks) if has_jobs(hook.pool)]
    if not pools:
        return
    shown = job_gauges(pools, REFRESH_TIMEOUT_S)
    for metric in JOB_METRICS:
        family = _family(metric)
        for (each, labels), value in shown.items():
            if each is metric:
                family.add_metric(labels, value)
        yield family


def _family(metric: Metric) -> Any:
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    return kinds[metric.kind](metric.name, metric.help, labels=metric.labels)


def _buckets(observed: HistogramSnapshot) -> list[tuple[str, int]]:
    """Return bounds and cumulative counts, as Prometheus wants them."""
    total, buckets = 0, []
    for bound, count in zip((*observed.bounds, float("inf")), observed.counts, strict=True):
        total += count
        buckets.append((_le(bound), total))
    return buckets


def _le(bound: float) -> str:
    """Return the ``le`` label of a bucket."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


class _FileExporter:
    """Keep the totals in files, one set for each process, which the process that is scraped adds up.

    What this process has counted is kept in memory as well: the files may be taken away from a server that runs.
    """

    def __init__(self) -> None:
        self.hooks: list[PrometheusHook] = []
        self.store: MetricStore = self
        self.totals = Totals()
        self._values: dict[tuple[str, Labels], Any] = {}
        self._shown: Gauges = {}
        self._lock = threading.Lock()  # a scrape may come from any thread
        self._is_clean = False
        self._limiter = RateLimiter(60.0)
        os.makedirs(folder(), exist_ok=True)

    def clean_up(self) -> None:
        """Remove what earlier servers have left; once, and not in workers."""
        if self._is_clean or state.is_worker:
            return
        self._is_clean = True
        try:
            if count := remove_files_of_earlier_servers():
                logger.info("removed %d files of earlier servers from %s", count, folder())
        except OSError as error:
            logger.warning("could not remove the files of earlier servers from %s: %s", folder(), error)

    def add(self, metric: Metric, labels: Labels, amount: float) -> None:
        """Add to a counter."""
        self.totals.add(metric, labels, amount)
        with self._lock:
            self._change(metric, metric.name, metric.labels, labels, "inc", amount)

    def observe(self, metric: Metric, labels: Labels, new: HistogramSnapshot) -> None:
        """Add observations to a histogram; whoever is scraped makes running totals of them."""
        self.totals.observe(metric, labels, new)
        names = (*metric.labels, "le")
        with self._lock:
            self._change(metric, f"{metric.name}_sum", metric.labels, labels, "inc", new.sum)
            for bound, count in zip((*new.bounds, float("inf")), new.counts, strict=True):
                self._change(metric, f"{metric.name}_bucket", names, (*labels, _le(bound)), "inc", count)

    def show(self) -> None:
        """Write the gauges of all pools of this process; what is not there any more is nothing."""
        with self._lock:
            shown = together(hook.gauges for hook in list(self.hooks))
            for (metric, labels), value in {**dict.fromkeys(self._shown, 0.0), **shown}.items():
                self._change(metric, metric.name, metric.labels, labels, "set", value)
            self._shown = shown

    def are_whole(self) -> bool:
        """Tell whether the folder, and in it this process's files, are still there."""
        pid = os.getpid()
        kinds = {"counter", "histogram"} if self._values else ()
        return os.path.isdir(folder()) and all(
            os.path.exists(os.path.join(folder(), f"{kind}_{pid}.db")) for kind in kinds
        )

    def warn(self, message: str, *args: object) -> None:
        """Log a warning, at most once a minute."""
        if self._limiter.may_say(message, time.monotonic()):
            logger.warning(message, *args)

    def _change(self, metric: Metric, sample: str, names: Labels, labels: Labels, how: str, amount: float) -> None:
        try:
            value = self._values.get((sample, labels)) or self._new(metric, sample, names, labels)
        except OSError as error:  # memory has it; a hook that raised would be called no more
            self.warn("could not write metrics to %s: %s", folder(), error)
            return
        if amount or how == "set":
            getattr(value, how)(amount)

    def _new(self, metric: Metric, sample: str, names: Labels, labels: Labels) -> Any:
        mode = ("livemax" if metric.highest else "livesum") if metric.kind == "gauge" else ""
        make: Any = values.ValueClass
        family = metric.name.removesuffix("_total")
        value = make(metric.kind, family, sample, names, labels, metric.help, multiprocess_mode=mode)
        self._values[sample, labels] = value
        return value


class _AllProcesses:
    """What the processes have written, and the jobs, of which each of them would say the same."""

    def __init__(self, files: _FileExporter | None) -> None:
        self._hooks = () if files is None else files.hooks

    def collect(self) -> Iterator[Family]:
        """Collect all of them."""
        return chain(self._read(), _job_families(self._hooks))

    def _read(self) -> Iterable[Family]:
        """Read the files while processes start and end: the client's own ``collect`` raises if it meets one of them."""
        merge: Callable[[list[str]], Iterable[Family]] = MultiProcessCollector.merge
        for _ in range(READ_ATTEMPTS - 1):
            with contextlib.suppress(FileNotFoundError):  # a server that starts has removed what others have left
                return merge(written_files())
        return merge(written_files())


class _ThisProcess:
    """The fallback while the files are gone: the client's metrics and lifepool's, of one process."""

    def __init__(self, registry: CollectorRegistry, files: _FileExporter | None) -> None:
        self._registry = registry
        self._files = files

    def collect(self) -> Iterator[Family]:
        """Collect all of them."""
        own = () if self._files is None else _families(self._files.hooks, self._files.totals)
        return chain(self._registry.collect(), own)


def exposition(accept: str = "", registry: CollectorRegistry = REGISTRY) -> tuple[bytes, str]:
    """Return what Prometheus reads: of this process or, in multiprocess mode, of all. Any thread may call it.

    If the folder of the multiprocess mode was removed under a server that runs, it is of this process alone, and the
    log says so: a scrape is answered in any case.

    Args:
        accept: The request's ``Accept`` header: Prometheus' text format, or OpenMetrics.
        registry: What to show; in multiprocess mode all that the processes have written.

    Returns:
        The text, and its content type.
    """
    encode, content_type = choose_encoder(accept)
    if not is_multiprocess():
        return encode(registry), content_type
    for hook in list(_files.hooks) if _files is not None else ():
        hook.refresh()
    if _files is not None:
        _files.show()
    if not (_files.are_whole() if _files is not None else os.path.isdir(folder())):
        warn = logger.warning if _files is None else _files.warn
        warn(
            "the files of PROMETHEUS_MULTIPROC_DIR=%s are gone: /metrics shows one server process of all; "
            "restart the server, and let nobody clean up that folder while it runs",
            folder(),
        )
        return encode(_ThisProcess(registry, _files)), content_type
    forget_dead_processes()
    return encode(_AllProcesses(_files)), content_type
