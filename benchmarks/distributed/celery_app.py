"""The Celery application that the worker runs: one task, which calls a function given by its name.

The address of the broker comes from the environment, so that nothing here has one of its own.
"""

import os
from importlib import import_module
from typing import Any

from celery import Celery

BROKER = "BENCHMARK_BROKER"

app = Celery("benchmarks", broker=os.environ[BROKER], backend=os.environ[BROKER])
app.conf.update(
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle"],  # the broker is ours alone: on loopback, with a password
    result_expires=60,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
)


@app.task(name="benchmarks.call")  # type: ignore[untyped-decorator]
def call(module: str, name: str, args: tuple[Any, ...]) -> Any:
    """Call a module's function."""
    return getattr(import_module(module), name)(*args)
