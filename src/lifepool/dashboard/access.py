"""Who may see the page, who may act on it, and that an action was meant by whoever sent it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Literal
from urllib.parse import urlsplit

Access = Literal["none", "read", "act"]
Scope = MutableMapping[str, Any]
AccessCallback = Callable[[Scope], Access | Awaitable[Access]]

#: A header that a form or a link on another site can't send; its value is the action.
ACTION_HEADER = "x-lifepool-action"


async def access_of(callback: AccessCallback | None, scope: Scope) -> Access:
    """What whoever asks may do. Without a callback: read.

    Raises:
        TypeError: If the callback answers with something else than an ``Access``.
        Exception: What the callback raises; nothing is shown then.
    """
    if callback is None:
        return "read"
    answer = callback(scope)
    found = await answer if inspect.isawaitable(answer) else answer
    if found not in ("none", "read", "act"):
        raise TypeError(f'the access callback must return "none", "read" or "act", not {found!r}')
    return found


def foreign_reader(headers: Mapping[str, str]) -> bool:
    """Whether a page of another site asks for data, as far as the browser tells."""
    return headers.get("sec-fetch-site", "") == "cross-site"


def why_not_meant(headers: Mapping[str, str], action: str) -> str | None:
    """Why an action can't be taken as meant by the user of this page; None if it can.

    Three things that a forged request can't all have. The header needs the page's own script (from another site it
    takes a CORS preflight, which is not answered). ``Sec-Fetch-Site`` and ``Origin`` are set by the browser alone.
    A client that is no browser sends neither of those two, and has no cookies that could be abused.
    """
    if headers.get(ACTION_HEADER) != action:
        return f"the header {ACTION_HEADER}: {action} is missing"
    site = headers.get("sec-fetch-site")
    if site is not None:
        return None if site == "same-origin" else f"the request comes from another site ({site})"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc not in (headers.get("host"), headers.get("x-forwarded-host")):
        return f"the request comes from another site ({origin})"
    return None
