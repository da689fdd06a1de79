"""`lifepool check`, LP007, LP015, LP016: async functions, and what is or is not awaited, between modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.sources import POOL, found

if TYPE_CHECKING:
    from pathlib import Path


# --- async functions, and await ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("send", "code"),
    [
        ("await pool.run(fetch, 1)", ["LP015"]),
        ("await pool.run(functools.partial(fetch, 1))", ["LP015"]),
        ("await pool.gather(work.fetch, [1])", ["LP015"]),
        ("await asyncio.to_thread(fetch)", ["LP015"]),
        ("await run_in_threadpool(fetch)", ["LP015"]),
        ("await loop.run_in_executor(None, fetch)", ["LP015"]),
        ("threads.submit(fetch)", ["LP015"]),
        ("await pool.run(s.method)", ["LP015"]),
        ("await pool.run(plain)", []),
        ("await pool.run(decorated)", []),
        ("await pool.run(unknown)", []),
        ("await fetch()", []),
    ],
)
def test_an_async_function_of_another_module_is_not_for_workers(send: str, code: list[str], tmp_path: Path) -> None:
    work = """
        class Service:
            async def method(self): ...
        async def fetch(): ...
        def plain(): ...
        @made_plain
        async def decorated(): ...
        """
    view = f"""
        import asyncio, functools
        from concurrent.futures import ThreadPoolExecutor
        from fastapi.concurrency import run_in_threadpool
        from lifepool import Pool
        import work
        from elsewhere import unknown
        from work import Service, decorated, fetch, plain
        s = Service()
        async def f(pool: Pool, threads: ThreadPoolExecutor):
            loop = asyncio.get_running_loop()
            {send}
        """
    assert [each for each, *_ in found(tmp_path, {"work.py": work, "view.py": view})] == code


@pytest.mark.parametrize("decorator", ["pool.task", "pool.task(timeout=1)", "pool.batch", "pool.resource"])
def test_what_runs_in_workers_is_declared_with_plain_functions(decorator: str, tmp_path: Path) -> None:
    source = f"from pools import pool\n@{decorator}\nasync def work(items): ..."
    assert found(tmp_path, {"pools.py": POOL, "view.py": source}) == [("LP015", "view.py", 2)]
    assert found(tmp_path, {"pools.py": POOL, "view.py": source.replace("async ", "")}) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pool.run(len, x)", ["LP016"]),
        ("pool.gather(len, x)", ["LP016"]),
        ("pool.map(len, x)", ["LP016"]),
        ("double(x)", ["LP016"]),
        ("r = pool.run(len, x); return {'n': r}", ["LP016"]),
        ("r = pool.gather(len, x); return sum(r)", ["LP016"]),
        ("r = double(x); return r + 1", ["LP016"]),
        ("return {'n': pool.run(len, x)}", ["LP016"]),
        ("return pool.run(len, x)['n']", ["LP016"]),
        ("return sum(pool.gather(len, x))", ["LP016"]),
        ("return [n for n in pool.gather(len, x)]", ["LP016"]),
        ("for n in pool.map(len, x): print(n)", ["LP016"]),
        ("return list(pool.map(len, x))", ["LP016"]),
        ("return await pool.map(len, x)", ["LP016"]),
        ("return pool.submit(len, x).result()", ["LP016"]),
        ("h = pool.submit(len, x); return h.result()", ["LP016"]),
        ("return await pool.run(len, x)", []),
        ("return sum(await pool.gather(len, x))", []),
        ("return [n async for n in pool.map(len, x)]", []),
        ("r = pool.run(len, x); return await r", []),
        ("r = pool.run(len, x); return r", []),
        ("r = pool.run(len, x); asyncio.create_task(r)", []),
        ("jobs = [pool.run(len, y) for y in (1, 2)]; return await asyncio.gather(*jobs)", []),
        ("pool.submit(len, x)", []),
        ("h = pool.submit(len, x); await h; return h.result()", []),
        ("h = pool.submit(len, x); await asyncio.wait([h]); return h.result()", []),
        ("h = pool.submit(len, x); return h.result() if h.done() else None", []),
        ("r = pool.run(len, x); r.close()", []),
        ("other.run(len, x)", []),
    ],
)
def test_a_missing_await_is_found(body: str, code: list[str], tmp_path: Path) -> None:
    pools = f"{POOL}@pool.task\ndef double(x): return 2 * x\n"
    view = f"import asyncio\nfrom pools import double, pool\nasync def f(x, other):\n    {body}\n"
    assert [each for each, *_ in found(tmp_path, {"pools.py": pools, "view.py": view})] == code


def test_a_handler_does_not_answer_with_a_coroutine(tmp_path: Path) -> None:
    view = "from pools import pool\n@router.get('/')\n{}def f(x: str):\n    return pool.run(len, x)"
    assert found(tmp_path, {"pools.py": POOL, "view.py": view.format("async ")}) == [("LP016", "view.py", 4)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("fs = [executor.submit(len, y) for y in x]\n    return [f.result() for f in fs]", ["LP007"]),
        ("fs = [executor.submit(len, y) for y in x]\n    for f in fs: print(f.result())", ["LP007"]),
        ("f = executor.submit(len, x)\n    return f.result()", ["LP007"]),
        ("f = executor.submit(len, x)\n    return f.result() if f.done() else None", []),
        ("f = executor.submit(len, x)\n    await asyncio.wrap_future(f)\n    return f.result()", []),
        ("f = asyncio.ensure_future(x)\n    return f.result()", []),
    ],
)
def test_waiting_for_futures_of_an_executor_of_another_module(body: str, code: list[str], tmp_path: Path) -> None:
    pools = "from lifepool.futures import ProcessPoolExecutor\nexecutor = ProcessPoolExecutor()\n"
    view = f"import asyncio\nfrom pools import executor\nasync def handler(x):\n    {body}"
    assert [each for each, *_ in found(tmp_path, {"pools.py": pools, "view.py": view})] == code
