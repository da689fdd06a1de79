"""No guard, and an `except` that hides what the pool says about it."""

import asyncio
import contextlib
import os

from lifepool import Pool

with open(os.environ["IMPORT_LOG"], "a+") as log:
    is_the_first = not log.tell()
    log.write(f"{os.getpid()}\n")


async def main() -> None:
    async with Pool(max_workers=2) as pool:
        print(await pool.run(abs, -1))


if is_the_first:
    asyncio.run(main())
else:
    with contextlib.suppress(Exception):
        asyncio.run(main())
