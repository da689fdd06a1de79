"""No guard: every import of this script starts a pool."""

import asyncio
import os

from lifepool import Pool

with open(os.environ["IMPORT_LOG"], "a") as log:
    log.write(f"{os.getpid()}\n")


async def main() -> None:
    async with Pool(max_workers=2) as pool:
        print(await pool.run(abs, -1))


asyncio.run(main())
