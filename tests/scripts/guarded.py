"""A script as it should be; its functions and classes live in `__main__`."""

import asyncio
import os
import sys
from dataclasses import dataclass

from lifepool import Pool


@dataclass
class Point:
    x: int
    y: int


class Refused(Exception):
    pass


def mirrored(point: Point) -> Point:
    return Point(point.y, point.x)


def refuse() -> None:
    raise Refused("from a worker")


def name_of_main() -> str:
    return __name__


async def main() -> None:
    os.chdir("/")  # where the script is was known before
    async with Pool(max_workers=1) as pool:
        print(await pool.run(mirrored, Point(1, 2)), await pool.run(name_of_main))
        try:
            await pool.run(refuse)
        except Refused as error:
            print(type(error).__name__, error)


if __name__ == "__main__":
    print("arguments", sys.argv[1:])
    asyncio.run(main())
