"""Be the script that is measured: make executors one after another, ask each for one result, print the seconds.

It is run as ``python script.py CONTENDER EXECUTORS [MODULE...]``, and imports those modules as a user's script does:
before anything else, and so in each process that imports the script.
"""

import time

began = time.perf_counter()

import importlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402

for module in sys.argv[3:]:
    importlib.import_module(module)


def make(contender: str) -> object:
    """Make an executor, and import it, as the contender's users do."""
    if contender == "lifepool":
        from lifepool.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(2)
    if contender == "loky":
        loky: type = importlib.import_module("loky").ProcessPoolExecutor
        return loky(2)
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor as Standard

    return Standard(2, mp_context=multiprocessing.get_context(contender))


def add_one(number: int) -> int:
    """Be a task."""
    return number + 1


def main() -> None:
    """Print the seconds from the script's first line to the first result, and to the end of the last executor."""
    first = 0.0
    for _ in range(int(sys.argv[2])):
        executor: object = make(sys.argv[1])
        with executor:  # type: ignore[attr-defined]
            assert executor.submit(add_one, 1).result() == 2  # type: ignore[attr-defined]
            first = first or time.perf_counter() - began
    print(json.dumps({"first": first, "all": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
