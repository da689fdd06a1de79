"""The program of a Celery node: a real Celery worker, whose pool is lifepool's."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from lifepool.backends.celery.names import TASK

if TYPE_CHECKING:
    from lifepool.backends.remote.messages import Signer
    from lifepool.backends.remote.urls import ClusterUrl
    from lifepool.nodes.node_thread import NodeSettings

#: Seconds between two attempts to reach the broker, at most.
_PAUSE_S = 1.0
#: Seconds for which Redis may take to answer the worker.
_ANSWER_S = 5.0
#: Seconds for which one of the two threads, Celery's and the node's, may keep the other from running Python: each has
#: little to do for a call, and what waits for it is the call. Python's own 5 ms is as long as a whole call takes.
_SWITCH_S = 0.0002


def run(url: ClusterUrl, signer: Signer, settings: NodeSettings) -> int:
    """Run a node until it is told to end by SIGTERM or Ctrl-C; return its exit code."""
    os.environ["CELERY_CUSTOM_WORKER_POOL"] = "lifepool.nodes.celery_pool:TaskPool"
    sys.setswitchinterval(_SWITCH_S)
    app = make_app(url)
    app.lifepool = (url, signer, settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for name, level in (("lifepool", logging.INFO), ("celery", logging.WARNING), ("kombu", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    # Celery warns of running as root: what it unpacks is JSON, and it calls nothing that comes with it.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    worker = app.Worker(
        pool="custom",
        concurrency=settings.max_workers or 1,  # the node says how many there are when it is up
        queues=[url.queue],
        hostname=f"lifepool-{os.getpid()}@{os.uname().nodename}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=logging.WARNING,
        optimization="fair",
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _timeouts(url: ClusterUrl) -> dict[str, float]:
    if url.is_amqp:
        return {"read_timeout": _ANSWER_S, "write_timeout": _ANSWER_S}
    return {"socket_timeout": _ANSWER_S, "socket_connect_timeout": _ANSWER_S}


def make_app(url: ClusterUrl) -> Any:
    """Make the Celery app that reads this queue."""
    from celery import Celery
    from celery.app.amqp import AMQP

    class App(Celery):  # type: ignore[misc]  # Celery has no types
        """A Celery app that comes back to its broker quickly: Celery's own pauses grow to half a minute."""

        def connection_for_read(self, *args: Any, **options: Any) -> Any:
            connection = super().connection_for_read(*args, **options)
            connection.ensure_connection = partial(
                connection.ensure_connection, interval_start=0.1, interval_step=0.2, interval_max=_PAUSE_S
            )
            return connection

    class TakesForGood(AMQP):  # type: ignore[misc]  # Celery has no types
        """Take messages out of a list of Redis, and keep no record there of what was taken.

        Celery would write each message into a hash and delete it at once, for calls are acknowledged before they run:
        two more round trips, in which its loop does nothing else. A call that gets lost in between is looked for by
        its client.
        """

        def TaskConsumer(self, channel: Any, *args: Any, **options: Any) -> Any:  # noqa: N802 - Celery's name
            consumer = super().TaskConsumer(channel, *args, no_ack=True, **options)
            consumer.channel.qos.ack = lambda delivery_tag: None
            return consumer

    own = {} if url.is_amqp else {"amqp": TakesForGood}
    app = App("lifepool", broker=url.address, set_as_current=False, **own)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_default_queue=url.queue,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        # A message is taken when there is a slot for it: other nodes may be free. RabbitMQ has no such setting.
        worker_disable_prefetch=not url.is_amqp,
        worker_enable_remote_control=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_timeouts(url),
    )

    @app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def call(text: str) -> None:
        raise NotImplementedError("only lifepool's own worker pool runs these: start nodes with 'lifepool worker'")

    return app
