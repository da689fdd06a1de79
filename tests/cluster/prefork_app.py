"""A Celery app of somebody's own, with a task of its own, whose workers run calls of lifepool too."""

from __future__ import annotations

import os

from celery import Celery

from lifepool.backends.celery import register

app = Celery("theirs", broker=os.environ["THEIR_BROKER"], backend=os.environ["THEIR_BROKER"])
app.conf.update(task_default_queue=os.environ["THEIR_QUEUE"], broker_connection_retry_on_startup=True)
register(app, allow=["tests", "time"])


@app.task(name="theirs.add")  # type: ignore[untyped-decorator]
def add(one: int, two: int) -> int:
    return one + two
