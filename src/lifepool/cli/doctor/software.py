"""Examine what is installed, the event loop, and the variables that a pool reads."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import lifepool
from lifepool.cli.doctor.findings import Finding, fail, ok, warn
from lifepool.cli.versions import package_versions
from lifepool.config import describe_settings, near_misses, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGES = (
    "fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools", "gunicorn", "hypercorn", "granian", "typer",
    "rich",
)  # fmt: skip
FASTAPI_LEAST = (0, 121)
"""The first whose dependencies can end with the handler; ``PoolDep`` needs it. Also in pyproject.toml."""

#: May hold a secret: initargs a key, the backend's URL a password.
_SECRET = ("initargs", "backend")


def check_versions() -> Iterator[Finding]:
    """Report Python, lifepool, and the packages that it meets in a server."""
    yield ok("python", f"{platform.python_implementation()} {platform.python_version()}, {_gil()}{platform.platform()}")
    yield ok("lifepool", lifepool.__version__)
    found = package_versions(PACKAGES)
    yield ok("packages", ", ".join(f"{name} {number}" for name, number in found.items()) or "none that matter here")
    if "fastapi" in found:
        yield from _fastapi(found["fastapi"])
    yield _loop(found)


def _gil() -> str:
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    return "" if enabled else "without the GIL, "


def _fastapi(text: str) -> Iterator[Finding]:
    parts = text.split(".")[:2]
    if all(part.isdigit() for part in parts) and tuple(map(int, parts)) < FASTAPI_LEAST:
        yield warn("fastapi", f"{text} is too old for PoolDep", "pip install 'lifepool[fastapi]'")


def _loop(found: Mapping[str, str]) -> Finding:
    if "uvloop" in found:
        return ok("event loop", "uvloop is installed; uvicorn takes it by itself")
    return ok("event loop", "asyncio's own; uvloop would make round trips shorter: pip install 'lifepool[uvloop]'")


def check_environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Report of each ``LIFEPOOL_*`` variable whether it is a setting, and its value a valid one."""
    for setting in describe_settings():
        text = environ.get(setting.variable, "").strip()
        if text:
            yield _variable(setting.variable, setting.name, text, environ)
    for name, meant in near_misses(environ).items():
        yield warn(name, "not a setting of lifepool, and ignored", f"rename it to {meant}")


def _variable(variable: str, name: str, text: str, environ: Mapping[str, str]) -> Finding:
    # Each with those that it could contradict, and no others: one wrong value is one finding.
    together = ("LIFEPOOL_MAX_WORKERS",) if name == "min_workers" else ()
    together = ("LIFEPOOL_INITIALIZER",) if name == "initargs" else together
    chosen = {key: environ[key] for key in (variable, *together) if key in environ}
    try:
        resolve({}, chosen)
    except (TypeError, ValueError) as error:
        message = f"{variable} is not what was expected" if name in _SECRET else str(error)
        return fail(variable, message, f"correct {variable}, or unset it")
    return ok(variable, "set" if name in _SECRET else text)
