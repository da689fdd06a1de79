"""Take calls out of Celery's queue on RabbitMQ, while no node reads it.

RabbitMQ can't remove one message from a queue. So the queue is read through: what is looked for is acknowledged, which
removes it for good. What belongs to others is published again, and then acknowledged: given back, it would count as
delivered twice, and its client would have to take it for started.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import amqp

from lifepool.backends.celery.names import calls_in
from lifepool.backends.remote.messages import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

#: Messages that are read in one look: it holds up the thread of the connection.
MOST_READ = 2000


def recall(
    connection: Any, declare: Callable[[Any], Any], queue: str, ids: set[str], wait_s: float
) -> tuple[set[str], bool]:
    """Take envelopes out of the queue; return those that were, and whether all that is in it was looked at.

    One that was delivered before, to a node that died, is removed as well, but not returned: it may have run.

    Args:
        connection: To the broker.
        declare: Declares the queue on a channel.
        queue: Its name.
        ids: Of the first calls of envelopes.
        wait_s: Seconds for which messages may wait in the queue.

    Raises:
        LookupError: If there is something in the queue, and nodes read it: they may have any of it in a moment.
    """
    channel = connection.channel()  # closed in any case: what was read and not acknowledged is in the queue again
    try:
        state = declare(channel)
        if not state.message_count:
            return set(), True
        if state.consumer_count:
            raise LookupError("they may be in the queue, which nodes read")
        channel.confirm_select()
        return _read_through(channel, queue, ids, wait_s, min(MOST_READ, 2 * state.message_count))
    finally:
        channel.close()


def _read_through(channel: Any, queue: str, ids: set[str], wait_s: float, most: int) -> tuple[set[str], bool]:
    taken: set[str] = set()
    of_others: list[Any] = []
    is_all = False
    for _ in range(most):
        message = channel.basic_get(queue, no_ack=False)
        if message is None:
            is_all = True
            break
        id = message.properties.get("correlation_id")
        if id not in ids:
            of_others.append(message)
            continue
        channel.basic_ack(message.delivery_tag)
        if not message.delivery_info["redelivered"]:
            taken.add(id)
    for message in of_others:
        if (again := None if message.delivery_info["redelivered"] else _again(message, wait_s)) is not None:
            channel.basic_publish_confirm(again, "", queue)
            channel.basic_ack(message.delivery_tag)
    return taken, is_all


def _again(message: Any, wait_s: float) -> Any:
    """Return a message that is dropped when this one would have been; None if that is not known: it is not ours."""
    try:
        issued = json.loads(calls_in(message.body)[0].head)["issued"]
    except (Refused, ValueError, KeyError):
        return None
    left = max(0.0, issued + wait_s - time.time())
    return amqp.Message(message.body, **{**message.properties, "expiration": str(round(left * 1000))})
