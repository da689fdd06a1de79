"""A worker that is started later has imported what is being called before it takes its first task."""

import asyncio
import os
import signal
import sys

from lifepool import Pool

UNUSED = "colorsys"  # a module of the standard library that nothing here imports but the test itself


def pid_and_imports() -> tuple[int, bool]:
    return os.getpid(), UNUSED in sys.modules


async def test_a_successor_imports_what_was_called_before_it_is_ready() -> None:
    import colorsys

    async with Pool(max_workers=1) as pool:
        first, has_it_before = await pool.run(pid_and_imports)
        await pool.run(colorsys.rgb_to_hsv, 0.1, 0.2, 0.3)
        os.kill(first, signal.SIGKILL)
        second, has_it_after = await pool.run(pid_and_imports, retries=1)
    assert not has_it_before
    assert second != first
    assert has_it_after


async def test_a_function_that_a_successor_cannot_import_keeps_nobody_from_starting() -> None:
    module = type(sys)("made_up_module")
    exec("def here_only(): return 1", module.__dict__)
    sys.modules["made_up_module"] = module
    module.here_only.__module__ = "made_up_module"
    try:
        async with Pool(max_workers=1) as pool:
            handle = pool.submit(module.here_only)
            await asyncio.wait([handle])
            first = await pool.run(os.getpid)
            os.kill(first, signal.SIGKILL)
            second = await pool.run(os.getpid, retries=1)
    finally:
        del sys.modules["made_up_module"]
    assert "made_up_module" in str(handle.exception())
    assert second != first
