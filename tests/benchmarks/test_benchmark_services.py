"""The servers of the service case never outlive whoever started them."""

import asyncio
import socket

from benchmarks.cases.service import HEALTH, start_server
from benchmarks.client import Client, post_json
from benchmarks.services import LONG_LIVED
from lifepool.cli.processes import group_members, kill_group, wait_until_gone

PATIENCE = 30.0  # seconds; a bound for a server to start, never waited for when all is well


async def test_a_server_and_its_workers_end_when_whoever_started_them_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = start_server(LONG_LIVED, 1, listener)
        client = Client(*listener.getsockname()[:2])
    assert process.stdin is not None
    try:
        await client.send(HEALTH, PATIENCE)
        await client.send(post_json("/addContent", {"data": "see www.example.com"}), PATIENCE)
        client.close()
        assert len(group_members(process.pid)) >= 2  # the server, its worker
        process.stdin.close()  # as the system does when a process ends
        left = await asyncio.to_thread(wait_until_gone, process.pid, PATIENCE)
        assert left == []
    finally:
        kill_group(process.pid, PATIENCE)
        process.wait(PATIENCE)
