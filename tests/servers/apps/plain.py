import asyncio

from work import double

from lifepool import Pool


async def main() -> None:
    async with Pool() as pool:
        print(await pool.gather(double, range(5)))


if __name__ == "__main__":
    asyncio.run(main())
