"""lifepool: the process pool that lives as long as your FastAPI app.

The public names are loaded on first use (PEP 562): a worker process imports this package too and must stay light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lifepool._engine.handle import TaskHandle as TaskHandle
    from lifepool._inside.state import report_progress as report_progress
    from lifepool._transfer.constants import constant as constant
    from lifepool.errors import BackendError as BackendError
    from lifepool.errors import BackendUnavailable as BackendUnavailable
    from lifepool.errors import BackendUnsupported as BackendUnsupported
    from lifepool.errors import ClientDisconnected as ClientDisconnected
    from lifepool.errors import InternalError as InternalError
    from lifepool.errors import PayloadTooLarge as PayloadTooLarge
    from lifepool.errors import PoolClosed as PoolClosed
    from lifepool.errors import PoolError as PoolError
    from lifepool.errors import QueueFull as QueueFull
    from lifepool.errors import TaskError as TaskError
    from lifepool.errors import TaskNotPicklable as TaskNotPicklable
    from lifepool.errors import TaskTimeout as TaskTimeout
    from lifepool.errors import WorkerLost as WorkerLost
    from lifepool.errors import WorkerStartError as WorkerStartError
    from lifepool.integrations.fastapi import PoolDep as PoolDep
    from lifepool.pool import Pool as Pool
    from lifepool.statistics import PoolStatistics as PoolStatistics

_HOMES = {
    "Pool": "lifepool.pool",
    "TaskHandle": "lifepool._engine.handle",
    "PoolStatistics": "lifepool.statistics",
    "report_progress": "lifepool._inside.state",
    "constant": "lifepool._transfer.constants",
    "PoolDep": "lifepool.integrations.fastapi",
    **dict.fromkeys(
        (
            "BackendError",
            "BackendUnavailable",
            "BackendUnsupported",
            "ClientDisconnected",
            "InternalError",
            "PayloadTooLarge",
            "PoolClosed",
            "PoolError",
            "QueueFull",
            "TaskError",
            "TaskNotPicklable",
            "TaskTimeout",
            "WorkerLost",
            "WorkerStartError",
        ),
        "lifepool.errors",
    ),
}

# PoolDep needs FastAPI, which a star import must not ask for.
__all__ = sorted([*_HOMES.keys() - {"PoolDep"}, "__version__"])


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lifepool' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
