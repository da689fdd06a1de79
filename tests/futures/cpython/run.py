"""Run CPython's own tests of the standard process pool, as they are installed, against lifepool's.

It needs nothing but an interpreter that has the package ``test``; ``sitecustomize.py`` of this folder swaps the class::

    PYTHONPATH=src:tests/futures/cpython python3.13 tests/futures/cpython/run.py [--kind Spawn] [--only test_map ...]

For each test it prints a line: its name without the class, and ``passed``, ``failed`` or ``skipped``.
"""

# ruff: noqa: N802 - the names that unittest calls

from __future__ import annotations

import argparse
import importlib
import multiprocessing.util
import sys
import unittest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODULES = ("process_pool", "init", "shutdown", "deadlock", "as_completed", "wait")


def main() -> None:
    """Run the tests that were asked for."""
    support: Any = importlib.import_module("test.support")
    script_helper = importlib.import_module("test.support.script_helper")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kind", choices=("Spawn", "Forkserver"), default="Forkserver", help="the start method")
    parser.add_argument("--only", nargs="*", default=[], help="names of tests such as test_map")
    arguments = parser.parse_args()
    support.use_resources = ["walltime"]
    vars(script_helper)["__cached_interp_requires_environment"] = True  # scripts are swapped too
    vars(multiprocessing.util)["_cleanup_tests"] = _cleanup_after(vars(multiprocessing.util)["_cleanup_tests"])
    suite = unittest.TestSuite(_chosen(arguments.kind, set(arguments.only)))
    printing: Any = _Printing
    unittest.TextTestRunner(sys.stderr, resultclass=printing, warnings="ignore").run(suite)


def _cleanup_after(cleanup: Callable[[], None]) -> Callable[[], None]:
    """Have the template ended that an executor has left for the next one, before CPython waits for what it holds."""

    def cleanup_of_both() -> None:
        from lifepool.backends.local.template import parking

        parking.place.end()
        cleanup()

    return cleanup_of_both


def _chosen(kind: str, names: set[str]) -> Iterator[unittest.TestCase]:
    for module in MODULES:
        for test in _flat(unittest.defaultTestLoader.loadTestsFromName(f"test.test_concurrent_futures.test_{module}")):
            if f"ProcessPool{kind}" in type(test).__name__ and (not names or name_of(test) in names):
                yield test


def _flat(suite: Any) -> Iterator[unittest.TestCase]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from _flat(each)
        else:
            yield each


def name_of(test: unittest.TestCase) -> str:
    """Return the name of the method; with what is initialised, where two have the same one."""
    name = test.id().rpartition(".")[2]
    return f"{name}_fails" if "FailingInitializer" in type(test).__name__ else name


class _Printing(unittest.TextTestResult):
    def stopTest(self, test: Any) -> None:
        """End the executors that a failing test has left: CPython's clean-up waits for what their workers hold."""
        from lifepool._pool import pool_thread

        super().stopTest(test)
        for thread in list(pool_thread._threads):
            thread.cancel_rest()
            thread.join(10)

    def addSuccess(self, test: Any) -> None:
        print("\n" + name_of(test), "passed", flush=True)

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        print("\n" + name_of(test), "failed", flush=True)

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        if isinstance(test, unittest.TestCase):
            print("\n" + name_of(test), "failed", flush=True)

    def addSkip(self, test: Any, reason: str) -> None:
        print("\n" + name_of(test), "skipped", flush=True)


if __name__ == "__main__":
    main()
