"""Where the store is: the URL, and what it means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from lifepool.jobs.store.drivers import Driver

#: Read when ``Jobs`` is made without ``store=``.
VARIABLE = "LIFEPOOL_JOBS_STORE"
_EXAMPLES = "'sqlite:///jobs.db' (a file), 'sqlite:////var/lib/app/jobs.db', 'postgresql+psycopg://user@host/database'"
_SYNCHRONOUS = ("FULL", "NORMAL")


def check_url(url: str | None) -> str:
    """Return the URL of the store, from the environment if none is given.

    Raises:
        ValueError: If there is none, or it is none that this version can use.
    """
    url = os.environ.get(VARIABLE) if url is None else url
    if not url:
        raise ValueError(f"Jobs needs store=, or {VARIABLE} in the environment: {_EXAMPLES}")
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        _sqlite_parts(url)
    elif scheme not in ("postgresql", "postgresql+psycopg", "postgres"):
        raise ValueError(f"store={_without_password(url)!r}: expected {_EXAMPLES}")
    return url


def make_driver(url: str) -> Driver:
    """Make the driver for a URL.

    Raises:
        ImportError: If its package is not installed; says how to install it.
        ValueError: As ``check_url``.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        from lifepool.jobs.store.sqlite import SqliteDriver

        return SqliteDriver(*_sqlite_parts(url))
    from lifepool.jobs.store.postgresql import PostgresDriver

    return PostgresDriver(f"postgresql://{rest}")


def _sqlite_parts(url: str) -> tuple[Path, str]:
    parts = urlsplit(url)
    path = unquote(parts.path[1:])  # three slashes for a relative path, four for an absolute one, as for SQLAlchemy
    if parts.netloc or not path or path == ":memory:":
        raise ValueError(f"store={url!r}: jobs outlive the server, so SQLite needs a file, as in 'sqlite:///jobs.db'")
    options = parse_qs(parts.query)
    synchronous = options.pop("synchronous", ["FULL"])[-1].upper()
    if options or synchronous not in _SYNCHRONOUS:
        raise ValueError(f"store={url!r}: the one option is synchronous=FULL (the default) or synchronous=NORMAL")
    return Path(path).absolute(), synchronous


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
