"""What lifepool uses of the standard library that has no public name: a new Python that lacks it is told apart here."""

from __future__ import annotations

import atexit
import re
import subprocess
import sys
from concurrent.futures import process as executor
from multiprocessing import context, forkserver, process, reduction, resource_tracker, spawn, util
from pathlib import Path

import pytest

import lifepool

MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (atexit, context, forkserver, process, resource_tracker, spawn, subprocess, sys, util)
} | {"standard": executor}
SOURCE = "\n".join(path.read_text() for path in Path(lifepool.__file__).parent.rglob("*.py"))
#: The code reads them in this way, so that type checkers don't ask for them.
READ = sorted({read for read in re.findall(r'vars\((\w+)\)\["(\w+)"\]', SOURCE) if read[0] in MODULES})


@pytest.mark.parametrize(("module", "name"), READ)
def test_a_name_that_is_not_public_is_there(module: str, name: str) -> None:
    assert name in vars(MODULES[module])


def test_and_so_is_what_they_hold() -> None:
    assert len(READ) > 8
    assert hasattr(vars(resource_tracker)["_resource_tracker"], "_fd")
    assert hasattr(vars(forkserver)["_forkserver"], "_inherited_fds")
    assert hasattr(process.BaseProcess, "_check_closed")
    assert hasattr(reduction, "ACKNOWLEDGE")
    assert hasattr(executor, "_threads_wakeups")
