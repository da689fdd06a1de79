"""Decide who may see the page, who may act on it, and whether a request was really meant by its sender."""

from __future__ import annotations

import inspect
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal
from urllib.parse import urlsplit

Access = Literal["none", "read", "act"]
Scope = MutableMapping[str, Any]
AccessCallback = Callable[[Scope], Access | Awaitable[Access]]

#: A header that a form or a link on another site can't send; its value is the action.
ACTION_HEADER = "x-lifepool-action"


class Hosts:
    """The names under which the page may be asked for.

    A page of another site can have its own name lead to this machine (DNS rebinding); for the browser both are the same
    site then, and nothing but the name tells. So what is answered is: any address in digits, which is nobody's name;
    ``localhost``; what the server is bound to; this machine's own name; and what the operator has named.

    Args:
        allowed: Names besides these: ``"pool.example.com"``, ``"*.example.com"`` for all below it, ``"*"`` for any.

    Raises:
        TypeError: If it is one name instead of several.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        if isinstance(allowed, str):
            raise TypeError(f"allowed_hosts={allowed!r}: expected several names, as in [{allowed!r}]")
        self._allowed = frozenset(name_of_host(name) for name in allowed)

    def why_not(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        """Say why a request is not answered; None if it is."""
        if "host" not in headers or "*" in self._allowed:  # browsers always send it
            return None
        name = name_of_host(headers["host"])
        server = scope.get("server") or ("", 0)
        if _is_address(name) or name in ("localhost", name_of_host(str(server[0])), socket.gethostname().lower()):
            return None
        above = {f"*.{part}" for part in _parents(name)}
        if name.endswith(".localhost") or name in self._allowed or above & self._allowed:
            return None
        return (
            f"this page is not served under the name {name[:100]!r}; if it is yours, say so where the page is mounted: "
            f"dashboard(pool, allowed_hosts=[{name[:100]!r}])"
        )


def name_of_host(host: str) -> str:
    """Return the name in a ``Host`` header, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, _, port = host.rpartition(":")
    return (name if name and ":" not in name and (port.isdigit() or not port) else host).rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[i:]) for i in range(1, len(parts))]


async def access_of(callback: AccessCallback | None, scope: Scope) -> Access:
    """Return what the sender of a request may do; without a callback: read.

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
    """Tell whether a page of another site asks for data, as far as the browser says."""
    return headers.get("sec-fetch-site", "") == "cross-site"


def why_not_meant(headers: Mapping[str, str], action: str) -> str | None:
    """Say why an action can't be taken as meant by the user of this page; None if it can.

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
