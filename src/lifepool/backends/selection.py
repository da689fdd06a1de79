"""Make a backend from the ``backend`` setting."""

from __future__ import annotations

import dataclasses
import sys
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, cast

from lifepool._inside.resources import without_eager
from lifepool.errors import BackendUnsupported

if TYPE_CHECKING:
    from lifepool.backends.base import Backend
    from lifepool.config import PoolConfig

#: Names for which there is a design and no code yet; better said when the pool is made than when it is used.
_PLANNED = ("unix:",)
_EXAMPLE = "'celery+redis://localhost'"
_EXPECTED = (
    "'local', 'inline', 'executor', the URL of a cluster, a concurrent.futures.Executor, or an object with the Backend"
    " protocol"
)


def is_local_supported() -> bool:
    """Return whether the local backend runs here: it needs descriptors that can be sent between processes."""
    return sys.platform != "win32"


def check_backend(backend: object) -> None:
    """Refuse a setting that can't become a backend, when the pool is made.

    Raises:
        BackendUnsupported: If this version has no such backend.
        ValueError: If it is no backend at all.
    """
    if isinstance(backend, str):
        if backend.startswith(_PLANNED):
            raise BackendUnsupported(
                f"backend={backend.partition(':')[0]!r} is not part of this version",
                capability=backend.partition(":")[0],
                hint="use backend='local'",
            )
        if "://" in backend:
            from lifepool.backends.remote import urls

            if urls.is_url(backend):
                urls.signer_for(urls.parse(backend))
                return
        if backend not in ("local", "inline", "executor"):
            raise ValueError(f"backend={backend!r}: expected {_EXPECTED}")
    elif not isinstance(backend, Executor) and not hasattr(backend, "capabilities"):
        raise ValueError(f"backend={backend!r}: expected {_EXPECTED}")


def check_backends(config: PoolConfig) -> None:
    """Refuse settings that can't become backends, when the pool is made.

    Raises:
        BackendUnsupported: If this version has no such backend, or the two can't be used together.
        ValueError: If one is no backend at all.
    """
    check_backend(config.backend)
    if config.overflow is None:
        return
    if not _is_cluster(config.overflow):
        raise ValueError(f"overflow={_shown(config.overflow)}: expected the URL of a cluster, as in {_EXAMPLE}")
    check_backend(config.overflow)
    if config.backend != "local":
        raise BackendUnsupported(
            f"overflow={_shown(config.overflow)}: what overflows comes from backend='local'",
            capability="overflow",
            hint="leave the backend out; for a cluster that falls back to this machine there is fallback='local'",
        )


def _is_cluster(backend: object) -> bool:
    if isinstance(backend, str):
        return "://" in backend
    return bool(getattr(getattr(backend, "capabilities", None), "remote", False))


def _shown(backend: object) -> str:
    """Return a backend for a message: the URL of a cluster may have a password."""
    return repr(backend.partition(":")[0] if isinstance(backend, str) else backend)


def make_backend(config: PoolConfig, modules: tuple[str, ...] = ()) -> Backend:
    """Make the backend that the settings name, or both: only what is named is imported.

    Args:
        config: The settings.
        modules: Names of modules that tasks are known to need.
    """
    prefers_remote = config.fallback is not None and _is_cluster(config.backend)
    if config.overflow is None and not prefers_remote:
        return _make_one(config, modules)
    from lifepool.backends.routed import RoutedBackend

    local = _make_one(dataclasses.replace(config, backend="local"), modules)
    remote = _make_cluster(config, config.backend if prefers_remote else config.overflow)
    return RoutedBackend(local, remote, prefers_remote=prefers_remote)


def _make_cluster(config: PoolConfig, url: Any) -> Any:
    """Make the cluster of a pool that has this machine too, whose settings for workers are not those of the nodes."""
    initializer, initargs = without_eager(config.initializer, config.initargs)
    config = dataclasses.replace(config, max_tasks_per_worker=None, max_worker_memory=None)
    return _make_one(dataclasses.replace(config, backend=url, initializer=initializer, initargs=initargs), ())


def _make_one(config: PoolConfig, modules: tuple[str, ...]) -> Backend:
    backend = config.backend
    if isinstance(backend, Executor):
        from concurrent.futures.process import ProcessPoolExecutor

        from lifepool.backends.executor import ExecutorBackend

        packs = isinstance(backend, ProcessPoolExecutor)
        return ExecutorBackend(lambda: backend, slots=config.max_workers, owned=False, packs=packs)
    if not isinstance(backend, str):
        return cast("Backend", backend)
    if backend == "inline":
        from lifepool.backends.inline import InlineBackend

        return InlineBackend(initializer=config.initializer, initargs=config.initargs)
    if "://" in backend:
        from lifepool.backends.remote.urls import make_remote_backend, parse

        _refuse_settings_of_nodes(config, parse(backend).engine.node_setting)
        return make_remote_backend(
            backend, max_payload=config.max_payload, initializer=config.initializer, initargs=config.initargs
        )
    if backend == "executor" or not is_local_supported():
        from lifepool.backends.executor import ExecutorBackend

        return ExecutorBackend.of_processes(
            config.max_workers,
            initializer=config.initializer,
            initargs=config.initargs,
            max_tasks_per_child=config.max_tasks_per_worker,
        )
    from lifepool.backends.local.backend import LocalBackend

    return LocalBackend(
        initializer=config.initializer,
        initargs=config.initargs,
        preload=config.preload,
        modules=modules,
        max_payload=config.max_payload,
        max_worker_memory=config.max_worker_memory,
        name=config.name,
    )


def _refuse_settings_of_nodes(config: PoolConfig, how: str) -> None:
    """Refuse what only the nodes of a cluster can do for their workers."""
    of_nodes = {
        "max_tasks_per_worker": config.max_tasks_per_worker is not None,
        "max_worker_memory": config.max_worker_memory is not None,
    }
    for name, is_given in of_nodes.items():
        if is_given:
            raise BackendUnsupported(
                f"{name} is a setting of the nodes of a cluster, not of its clients",
                capability=name,
                hint=f"give it to the nodes: {how.format(name.replace('_', '-'))}",
            )
