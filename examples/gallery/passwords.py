"""Hashing of passwords: ``uvicorn examples.gallery.passwords:app``.

::

    curl localhost:8000/hash -H 'content-type: application/json' -d '{"password": "correct horse"}'

A good hash is slow on purpose: 50 ms of CPU and 16 MiB here. scrypt lets go of the interpreter's lock, so a thread pool
would do for that; but it has 40 threads, so a crowd of logins takes all CPUs from the rest of the service, without a
queue that says no. The pool has one worker per CPU, and answers 503 with ``Retry-After`` above 100 waiting requests.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from fastapi import FastAPI
from pydantic import BaseModel, Field

from lifepool import Pool
from lifepool.integrations.fastapi import install

COST, BLOCK, SALT_BYTES = 1 << 14, 8, 16

pool = Pool(max_queue=100, timeout=5.0)
app = FastAPI(title="Passwords")
install(app, pool)


class Password(BaseModel):
    """What a user has typed."""

    password: str = Field(max_length=1000)


class Login(Password):
    """The same, and what was stored when the account was made."""

    stored: str = Field(pattern=r"^[0-9a-f]{32}:[0-9a-f]{128}$")


def hash_of(password: str) -> str:
    """Return salt and hash, for the database."""
    salt = os.urandom(SALT_BYTES)
    return f"{salt.hex()}:{_scrypt(password, salt).hex()}"


def is_right(password: str, stored: str) -> bool:
    """Tell whether this is the password that was stored."""
    salt, _, expected = stored.partition(":")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(expected))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=1)


@app.post("/hash")
async def make_hash(account: Password) -> str:
    """Return what is to be stored of a new password."""
    return await pool.run(hash_of, account.password)


@app.post("/check")
async def check(login: Login) -> bool:
    """Tell whether a login is right."""
    return await pool.run(is_right, login.password, login.stored)


@app.get("/health")
async def health() -> str:
    """Answer: the event loop is free."""
    return "ok"
