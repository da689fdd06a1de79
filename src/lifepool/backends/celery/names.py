"""What Celery and its brokers know our things by, and what an envelope of calls is as a message of Celery's."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool.backends.remote.messages import Message, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The Celery task that every envelope is.
TASK = "lifepool.call"
#: Bytes above which a payload travels beside the message: in it, bytes are written as base64.
BESIDE = 16 * 1024


class Keys(NamedTuple):
    """The keys and channels of one queue in Redis.

    Attributes:
        queue: Celery's own key of the queue.
    """

    queue: str

    @property
    def control(self) -> str:
        """Return the name of the channel from clients to all nodes."""
        return f"lifepool:{self.queue}:control"

    @property
    def nodes(self) -> str:
        """Return the name of the channel from nodes to all clients."""
        return f"lifepool:{self.queue}:nodes"

    def replies(self, client: str) -> str:
        """Return the list of what nodes have for one client."""
        return f"lifepool:{self.queue}:replies:{client}"

    def client(self, client: str) -> str:
        """Return the key that is there as long as the client is."""
        return f"lifepool:{self.queue}:client:{client}"

    def payload(self, id: str) -> str:
        """Return the key of a large payload."""
        return f"lifepool:{self.queue}:payload:{id}"

    def claim(self, id: str) -> str:
        """Return the key that is there once a node has claimed the call."""
        return f"lifepool:{self.queue}:claim:{id}"


def slim(message: Message) -> Message:
    """Return a message as it is in an envelope: what is large travels beside it."""
    return message._replace(payload=b"") if len(message.payload) > BESIDE else message


def celery_body(messages: Sequence[Message]) -> str:
    """Return calls as the body of Celery's message: the arguments of its task, in JSON."""
    packed = b"".join([slim(message).pack() for message in messages])
    # What json.dumps makes of it: base64 needs no escapes.
    return f'[["{base64.b64encode(packed).decode("ascii")}"], {{}}, {json.dumps(_EMBEDDED)}]'


_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def celery_headers(id: str, time_limit: float | None = None) -> dict[str, Any]:
    """Return the headers of Celery's message, version 2 of its protocol."""
    return {
        "lang": "py", "task": TASK, "id": id, "root_id": id, "parent_id": None, "group": None, "argsrepr": "",
        "kwargsrepr": "", "origin": "lifepool", "retries": 0, "timelimit": [time_limit, None], "eta": None,
        "expires": None, "ignore_result": True,
    }  # fmt: skip


def celery_message(queue: str, id: str, messages: Sequence[Message], time_limit: float | None = None) -> str:
    """Return an envelope as Celery's Redis transport has it in the list.

    Args:
        queue: Where it is put.
        id: Of its first call; Celery takes it for the id of its task.
        messages: Its calls.
        time_limit: Seconds after which Celery's own workers end it.
    """
    properties = {
        "correlation_id": id, "reply_to": "", "delivery_mode": 2, "priority": 0,
        "delivery_info": {"exchange": "", "routing_key": queue}, "delivery_tag": id,
    }  # fmt: skip
    return json.dumps(
        {
            "body": celery_body(messages),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": celery_headers(id, time_limit),
            "properties": properties,
        }
    )


def calls_in(body: bytes | str | memoryview) -> list[Message]:
    """Return the calls that are in the body of Celery's message.

    Raises:
        ValueError: If there is none.
        Refused: If one is no message of this version.
    """
    try:
        ((text,), _, _) = json.loads(bytes(body) if isinstance(body, memoryview) else body)
        packed = base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the body is no call: {error}") from None
    if not packed:
        raise Refused("version", "there is no call in it")
    return Message.unpack_all(packed)


class Queues(NamedTuple):
    """The queues and exchanges of one queue in RabbitMQ.

    Attributes:
        queue: Celery's own.
    """

    queue: str

    @property
    def control(self) -> str:
        """Return the name of the exchange from clients to all nodes."""
        return f"lifepool.{self.queue}.control"

    @property
    def nodes(self) -> str:
        """Return the name of the exchange from nodes to all clients."""
        return f"lifepool.{self.queue}.nodes"

    def replies(self, client: str) -> str:
        """Return the queue of what nodes have for one client."""
        return f"lifepool.{self.queue}.replies.{client}"

    def payload(self, id: str) -> str:
        """Return the queue of a large payload."""
        return f"lifepool.{self.queue}.payload.{id}"
