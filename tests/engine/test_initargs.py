"""Objects of multiprocessing as `initargs`: pickled while a worker is being started, and anew for each."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

import pytest

from lifepool import PayloadTooLarge, Pool, TaskNotPicklable, WorkerStartError
from tests.engine import shared_objects as shared
from tests.engine.scripts import SCRIPTS, run_script


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("what", ["pool", "executor"])
def test_workers_get_them_and_so_do_their_successors(what: str, method: str) -> None:
    done = run_script(str(SCRIPTS / "shared_objects.py"), what, method)
    assert (done.code, done.text) == (0, "all used\n")
    assert done.left_nothing


def test_no_semaphore_is_lost_or_complained_about() -> None:
    program = (
        "import asyncio, multiprocessing\n"
        "from lifepool import Pool\n"
        "from tests.engine import shared_objects as shared\n"
        "async def main():\n"
        "    lock = multiprocessing.get_context('spawn').RLock()\n"
        "    async with Pool(max_workers=1, initializer=shared.keep, initargs=(lock,)) as pool:\n"
        "        print(await pool.run(shared.draw_with_lock, 1))\n"
        "        await pool.recycle()\n"
        "        print(await pool.run(shared.draw_with_lock, 1), lock.acquire(timeout=5))\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = run_script("-c", program)
    assert (done.code, done.text) == (0, "True\nTrue True\n")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no context 'fork'")
@pytest.mark.parametrize("name", ["Lock", "Queue", "Event"])
async def test_one_of_the_fork_context_is_refused_with_the_way_out(name: str) -> None:
    context: Any = multiprocessing.get_context("fork")
    made = getattr(context, name)()
    pool = Pool(max_workers=1, initializer=shared.keep, initargs=("fine", made))
    with pytest.raises(TaskNotPicklable, match=r"initargs\[1\] can't be pickled.*get_context\('spawn'\)"):
        await pool.start()


@pytest.mark.parametrize("eager", [False, True])
async def test_what_can_not_be_sent_at_all_is_refused_at_the_start_by_its_name(eager: bool) -> None:
    lock: Any = multiprocessing.get_context("spawn").Lock()
    pool = Pool(max_workers=1, initializer=shared.keep, initargs=(lock, {"key": [threading.Lock()]}))
    if eager:
        pool.resource(eager=True)(dict_of_nothing)
    with pytest.raises(TaskNotPicklable, match=r"^initargs\[1\]\['key'\]\[0\] can't be pickled"):
        await pool.start()


def dict_of_nothing() -> dict[str, str]:
    return {}


async def test_the_limit_of_payloads_holds_for_them() -> None:
    pool = Pool(max_workers=1, initializer=shared.keep, initargs=(bytes(100_000),), max_payload=64 * 1024)
    with pytest.raises(PayloadTooLarge, match="arguments"):
        await pool.start()


async def test_what_was_closed_meanwhile_fails_the_next_start_and_says_so() -> None:
    ours, theirs = multiprocessing.Pipe()
    async with Pool(max_workers=1, initializer=shared.keep, initargs=(theirs,)) as pool:
        await pool.run(shared.keep)
        theirs.close()
        ours.close()
        with pytest.raises(WorkerStartError, match=r"initargs\[0\].*closed") as caught:
            await pool.recycle()
        assert "initargs must stay usable" in str(caught.value)
