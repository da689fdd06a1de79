"""Uploads that are searched as jobs: they are kept on the disk until they have been."""

import asyncio
import os
import secrets
import tempfile
import time
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request

from examples.domains.limits import Limits
from examples.domains.problems import Problem
from examples.domains.uploads import pieces_of

KEEP = 24 * 3600.0  # seconds that a job and its result stay
STALE = 2 * KEEP  # seconds after which an upload is deleted that nobody has fetched the names of
WRITE = 1 << 20  # bytes that are written at a time, in a thread: the disk may be slow


def folder() -> Path:
    """Return where uploads are, and the jobs' store: ``DOMAINS_FOLDER``, or one of this user's for temporary files."""
    return Path(os.environ.get("DOMAINS_FOLDER") or Path(tempfile.gettempdir(), f"domains-{os.getuid()}")).absolute()


def store() -> str:
    """Return the URL of the jobs' store."""
    return os.environ.get("LIFEPOOL_JOBS_STORE") or f"sqlite:///{folder()}/jobs.db"


def prepare() -> None:
    """Make the folder, for nobody else to read, and delete what is left over in it.

    Raises:
        PermissionError: It belongs to somebody else.
    """
    uploads = folder() / "uploads"
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder().stat().st_uid != os.getuid():
        raise PermissionError(f"{folder()} belongs to another user: set DOMAINS_FOLDER to a folder of your own")
    uploads.mkdir(mode=0o700, exist_ok=True)
    for path in uploads.iterdir():
        with suppress(FileNotFoundError):  # another server was quicker
            if path.stat().st_mtime < time.time() - STALE:
                path.unlink()


async def keep(request: Request, limits: Limits) -> str:
    """Write a body to the disk as it comes, and return its name; when this returns it survives a power cut.

    Raises:
        Problem: 507, there are too many already; and what `BodyLimit` raises. Nothing of it is left then.
    """
    declared = request.headers.get("content-length", "0")
    await asyncio.to_thread(_check_room, limits, int(declared) if declared.isdecimal() else 0)
    name = secrets.token_hex(16)
    path = path_of(name)
    try:
        with path.open("xb") as file:
            await _write(request, file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return name


async def _write(request: Request, file: BinaryIO) -> None:
    waiting = bytearray()
    async with aclosing(pieces_of(request)) as pieces:
        async for piece in pieces:
            waiting += piece
            if len(waiting) >= WRITE:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
    await asyncio.to_thread(_finish, file, bytes(waiting))


def _finish(file: BinaryIO, rest: bytes) -> None:
    file.write(rest)
    file.flush()
    os.fsync(file.fileno())


def _check_room(limits: Limits, expected: int) -> None:
    kept = expected
    for entry in os.scandir(folder() / "uploads"):
        with suppress(FileNotFoundError):
            kept += entry.stat().st_size
    if kept > limits.max_kept:
        hint = "Try again later, or raise DOMAINS_MAX_KEPT on the server."
        raise Problem(507, "The service keeps as many uploads as it can now.", hint)


def path_of(name: str) -> Path:
    """Return where an upload is."""
    return folder() / "uploads" / name


def forget(ended: dict[str, Any]) -> None:
    """Delete the upload of a job that has ended; one that has failed may be tried again, until it is stale."""
    if ended["type"] in ("job.succeeded", "job.cancelled"):
        for tag in ended["tags"]:
            path_of(tag).unlink(missing_ok=True)
