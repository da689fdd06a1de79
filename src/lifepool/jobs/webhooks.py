"""Webhooks: a signed POST when a job has ended, after the Standard Webhooks specification.

The receiver checks ``webhook-signature``: ``v1,`` and the base64 of an HMAC-SHA256 over ``id.timestamp.body``, with the
key that ``jobs.webhook_key`` shows (without its ``whsec_``, base64). Libraries for it exist in most languages.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 10.0
SCHEMES = ("http", "https")


def key_of(secret: str) -> str:
    """Derive the key of webhooks from ``LIFEPOOL_SECRET``; who has it can't sign payloads."""
    key = hmac.digest(secret.encode(), b"lifepool jobs webhooks", "sha256")
    return "whsec_" + base64.b64encode(key).decode()


def is_url(target: str) -> bool:
    """Whether a target is a URL, not an import path."""
    return urlsplit(target).scheme in SCHEMES


def headers_of(key: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of one delivery; the id stays the same when it is repeated."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    mac = hmac.new(base64.b64decode(key.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": "lifepool-jobs",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow none: the signature was for this URL."""


def post(url: str, key: str, message_id: str, body: bytes) -> str | None:
    """Deliver it; blocks.

    Returns:
        None if it was answered with 2xx, else what went wrong.
    """
    headers = headers_of(key, message_id, int(time.time()), body)
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - the scheme was checked
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except Exception as error:  # OSError, http.client's own, ValueError
        return f"{type(error).__name__}: {error}"[:500]
