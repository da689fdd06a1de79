"""No guard around a plain `multiprocessing` process."""

import asyncio
import multiprocessing
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
    multiprocessing.get_context("spawn").Process(target=print, args=("storm",)).start()
