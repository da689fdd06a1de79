"""Ask a running server for what its live page shows."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 5.0
#: Bytes of an answer that are read: the page's first one has some 50,000.
MAX_ANSWER = 5_000_000
#: The format of the document that is understood.
VERSION = 1


class NoPage(Exception):
    """Raised when there is no live page at an address; the message says what to do."""


class Unreachable(NoPage):
    """Raised when nobody answers there: it may come back."""


class Source:
    """The live page of one server.

    Args:
        url: Where it is mounted, with or without a slash at the end.
        headers: Sent along, for pages behind a login.

    Raises:
        NoPage: If this is no address of the web.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise NoPage(f"{url!r} is no address such as http://localhost:8000/pool")
        path = parts.path.removesuffix("state.json").rstrip("/")
        self.url: str = urlunsplit((parts.scheme, parts.netloc, f"{path}/", "", ""))
        self._headers = dict(headers)
        self._cursor = ""

    def read(self) -> dict[str, Any]:
        """Return the state now; after the first time only what is new of its history.

        Raises:
            Unreachable: If nobody answers.
            NoPage: If somebody else answers.
        """
        request = urllib.request.Request(f"{self.url}state.json?since={self._cursor}", headers=self._headers)  # noqa: S310 - http or https, see above
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                body = answer.read(MAX_ANSWER)
        except urllib.error.HTTPError as error:
            error.close()
            raise NoPage(_explain(self.url, error.code)) from None
        except (OSError, urllib.error.URLError) as error:
            raise Unreachable(f"nobody answers at {self.url}: {getattr(error, 'reason', error)}") from None
        state = _parsed(body)
        if state is None:
            raise NoPage(f'what answers at {self.url} is no live page: mount one, app.mount("/pool", dashboard(pool))')
        if state["version"] != VERSION:
            raise NoPage(f"{self.url} runs lifepool {state['lifepool']}, whose page this version does not understand")
        self._cursor = state["cursor"]
        return state


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        state = json.loads(body)
    except ValueError:
        return None
    return state if isinstance(state, dict) and {"lifepool", "version", "cursor"} <= state.keys() else None


def _explain(url: str, status: int) -> str:
    if status in (401, 403):
        return f'{url} refuses to show itself ({status}): send what it asks for, --header "Authorization: Bearer ..."'
    if status == 404:
        return f'there is no live page at {url} (404): mount one, app.mount("/pool", dashboard(pool)), and name that'
    return f"{url} answers with status {status}"
