"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import asyncio

import pytest

from lifepool import Pool
from lifepool.futures import ProcessPoolExecutor
from lifepool.testing import no_open_pools

_APP = """
    from lifepool import Pool

    pool = Pool(max_workers=1)
    other = Pool(max_workers=1)

    def answer():
        return 1
"""


def _run(pytester: pytest.Pytester, tests: str, *args: str, ini: str = "") -> pytest.RunResult:
    pytester.makepyfile(myapp=_APP, test_it=tests)
    pytester.makeini(f"[pytest]\n{ini}")
    return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", *args)


def test_scripts_and_inline_pools_hold_until_the_end_of_a_test(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
        import asyncio
        from myapp import answer, other, pool

        async def run():
            async with pool, other:
                return await pool.run(answer), await other.run(answer), pool.workers()[0].pid

        def test_both(script_pool, inline_pool):
            script = script_pool(pool)
            inline_pool(other)
            script.next(answer).returns(2)
            assert asyncio.run(run()) == (2, 1, None)

        def test_neither():
            assert asyncio.run(run())[:2] == (1, 1)

        def test_what_is_not_used(script_pool):
            script_pool(pool).next(answer).returns(3)
        """,
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*never used: script.next(answer).returns*"])


def test_the_option_chooses_the_backend(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
        from myapp import pool

        def test_it():
            assert pool.config.backend == "inline"
        """,
        "--lifepool-backend=inline",
    )
    result.assert_outcomes(passed=1)


def test_a_pool_that_is_left_running_fails_the_test(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
        import asyncio
        import pytest
        from myapp import pool

        @pytest.fixture(scope="module")
        def runner():
            with asyncio.Runner() as runner:
                yield runner
                runner.run(pool.aclose())

        def test_leaves_it(runner):
            runner.run(pool.start())

        def test_comes_after_it(runner):
            pass
        """,
        ini="lifepool_leak_check = true",
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*still running: <Pool 'pool' running, max_workers=1>*with TestClient(app)*"])


async def test_pools_and_executors_that_are_left_are_named() -> None:
    pool = Pool(max_workers=1, backend="inline", name="forgotten")
    with pytest.raises(AssertionError, match="still running: <Pool 'forgotten'"), no_open_pools():
        await pool.start()
    with no_open_pools():  # it ran before
        pass
    await pool.aclose()
    executor = ProcessPoolExecutor(1)
    with pytest.raises(AssertionError, match="an executor with 'with' or shutdown"), no_open_pools():
        await asyncio.wrap_future(executor.submit(abs, -1))
    executor.shutdown()
    with no_open_pools():
        async with pool:
            pass
