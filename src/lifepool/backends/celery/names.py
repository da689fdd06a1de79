"""What Celery and Redis know our things by, and what a call is as a message of Celery's."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from lifepool.backends.remote.messages import Message

#: The Celery task that every call is.
TASK = "lifepool.call"
#: Bytes above which a payload travels beside the message: in it, base64 is put into base64.
BESIDE = 4 * 1024


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


def celery_message(queue: str, id: str, message: Message) -> str:
    """Return a call as Celery's message, version 2 of its protocol, as its Redis transport has it in the list."""
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = base64.b64encode(json.dumps([[message.text()], {}, embedded]).encode()).decode()
    headers: dict[str, Any] = {
        "lang": "py", "task": TASK, "id": id, "root_id": id, "parent_id": None, "group": None, "argsrepr": "",
        "kwargsrepr": "", "origin": "lifepool", "retries": 0, "timelimit": [None, None], "eta": None, "expires": None,
        "ignore_result": True,
    }  # fmt: skip
    properties = {
        "correlation_id": id, "reply_to": "", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": queue}, "delivery_tag": id,
    }  # fmt: skip
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )


def call_in(body: bytes | str | memoryview) -> Message:
    """Return the call that is in the body of Celery's message.

    Raises:
        ValueError: If there is none.
        Refused: If it is no message of this version.
    """
    try:
        ((text,), _, _) = json.loads(bytes(body) if isinstance(body, memoryview) else body)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the body is no call: {error}") from None
    return Message.from_text(str(text))
