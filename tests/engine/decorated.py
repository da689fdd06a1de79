"""A module as users write it: a pool at the top, and functions that run in it. Workers import it too."""

import os

from lifepool import Pool

pool = Pool(max_workers=1)


@pool.task
def add(x: int, y: int = 10, *, factor: int = 1) -> int:
    """Add two numbers."""
    return (x + y) * factor


@pool.task(timeout=0.1)
def sleep_for_ever() -> None:
    import time

    time.sleep(10_000)


@pool.task(retries=1)
def die_once(path: str) -> str:
    if os.path.exists(path):
        return "survived"
    with open(path, "w"):
        pass
    os._exit(1)


@pool.task(priority=3, on_cancel="abandon")
def where() -> int:
    return os.getpid()


class Shop:
    @staticmethod
    @pool.task
    def price(amount: int) -> int:
        return 3 * amount


def takes_a_decorated_function_along(number: int) -> int:
    """In a worker a decorated function is called as the plain one it is."""
    return add.function(number, number)
