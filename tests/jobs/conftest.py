"""Stores for tests: SQLite in a folder of the test's own, and schemas on one PostgreSQL server.

Only tests that need PostgreSQL start it, and before anything else: a test that left a process behind would fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.jobs import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and _params(item).get("store_url") == "postgresql":
            item.fixturenames.insert(0, "postgresql_server")


def _params(item: pytest.Function) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else dict(callspec.params)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    with postgresql.server() as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def postgresql_url(postgresql_server: postgresql.Server) -> str:
    return postgresql_server.new_store()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(autouse=True)
def _no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFEPOOL_SECRET", raising=False)
    monkeypatch.delenv("LIFEPOOL_JOBS_STORE", raising=False)
