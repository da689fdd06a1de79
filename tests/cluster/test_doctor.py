"""`lifepool doctor --backend URL` against real engines that something is wrong with."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.servers import ROOT, free_port

if TYPE_CHECKING:
    from tests.cluster.servers import Harness


async def examine(url: str, **environment: str) -> tuple[int, str, dict[str, dict[str, Any]]]:
    """Run the command; return its exit code, the topic that it looked at last, and what it found by topic."""
    command = [sys.executable, "-m", "lifepool", "doctor", "--backend", url, "--json"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, check=False
    )
    (section,) = [each for each in json.loads(done.stdout)["sections"] if each["title"] == "Cluster"]
    findings = section["findings"]
    return done.returncode, findings[-1]["topic"], {finding["topic"]: finding for finding in findings}


@pytest.mark.parametrize("scheme", ["celery+redis", "celery+amqp", "dask+tcp", "ray+gcs", "ray"])
async def test_nothing_listens(scheme: str) -> None:
    code, last, found = await examine(f"{scheme}://127.0.0.1:{free_port()}")
    assert (code, last) == (1, "broker")
    assert found["broker"]["status"] == "fail"
    assert "can't be reached" in found["broker"]["found"]
    assert found["broker"]["fix"]


async def test_no_nodes_and_nodes_with_another_secret(own_engine: Harness) -> None:
    code, last, found = await examine(own_engine.url)
    assert (code, found["broker"]["status"], last) == (1, "ok", "nodes")
    assert found["nodes"]["status"] == "fail"
    assert found["nodes"]["fix"]
    await asyncio.to_thread(lambda: own_engine.start_node(LIFEPOOL_SECRET="theirs"))
    code, last, found = await examine(own_engine.url, LIFEPOOL_SECRET="ours")
    assert (code, last, found["secret"]["status"]) == (1, "secret", "fail")
    assert "another secret" in found["secret"]["found"]
    code, _, _ = await examine(own_engine.url, LIFEPOOL_SECRET="theirs")
    assert code == 0


@pytest.mark.parametrize("own_engine", ["celery+redis", "celery+amqp", "dask+tcp"], indirect=True)
async def test_another_version_and_another_clock(own_engine: Harness) -> None:
    await asyncio.to_thread(lambda: own_engine.start_node(WRONG_VERSION="0.0.1", WRONG_BY="-3600"))
    code, _, found = await examine(own_engine.url)
    assert code == 0
    assert {topic for topic, each in found.items() if each["status"] == "warn"} == {"versions", "clocks", "deadline"}
    assert "0.0.1 on " in found["versions"]["found"]
    (seconds,) = re.findall(r"-3[56]\d\d", found["clocks"]["found"])
    assert int(seconds) == pytest.approx(-3600, abs=30)
    assert found["round trip"]["status"] == "ok"
