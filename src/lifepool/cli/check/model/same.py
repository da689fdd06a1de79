"""Different dotted names of the same thing."""

from __future__ import annotations

_LOOP = "asyncio.AbstractEventLoop()"

_SAME = {
    "asyncio.get_event_loop()": _LOOP,
    "asyncio.get_running_loop()": _LOOP,
    "asyncio.new_event_loop()": _LOOP,
    "asyncio.events.get_event_loop": "asyncio.get_event_loop",
    "concurrent.futures.process.ProcessPoolExecutor": "concurrent.futures.ProcessPoolExecutor",
    "concurrent.futures.thread.ThreadPoolExecutor": "concurrent.futures.ThreadPoolExecutor",
    "fastapi.requests.Request": "fastapi.Request",
    "starlette.requests.Request": "fastapi.Request",
    "lifepool.PoolDep()": "lifepool.Pool()",
    "lifepool.integrations.fastapi.PoolDep()": "lifepool.Pool()",
    "lifepool.pool.Pool": "lifepool.Pool",
    "multiprocess.Pool": "multiprocessing.Pool",
    "multiprocessing.context.Process": "multiprocessing.Process",
    "multiprocessing.get_context()": "multiprocessing",
    "multiprocessing.pool.Pool": "multiprocessing.Pool",
    "torch.multiprocessing": "multiprocessing",
    # Methods of a picture that return a picture.
    **{f"PIL.Image.open().{name}()": "PIL.Image.open()" for name in ("convert", "crop", "filter", "resize", "rotate")},
}


def same(name: str) -> str:
    """Return the name that the tables use; looked up each time that a name grows by a part."""
    return _SAME.get(name, name)
