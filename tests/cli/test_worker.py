"""`lifepool worker`, as far as it needs no server: a mistake is one line, and nothing is started."""

from __future__ import annotations

import pytest

from tests.cli.runner import lifepool


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ray://localhost:10001", "pip install 'lifepool[ray]'"),
        ("celery+redis://", "expected a host"),
        ("celery+redis://localhost?lane=cpu", "there is no option 'lane'"),
        ("local", "expected the URL of a cluster"),
    ],
)
def test_a_mistake_is_one_line(url: str, message: str) -> None:
    done = lifepool("worker", "--backend", url)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_without_a_backend_it_is_wrong_usage() -> None:
    done = lifepool("worker", LIFEPOOL_BACKEND="")
    assert done.returncode == 2
    assert "--backend" in done.stderr
