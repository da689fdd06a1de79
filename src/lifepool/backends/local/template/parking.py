"""Keep the template of an executor that was shut down for the next one like it.

A template takes a tenth of a second to start, and longer if the script imports much. A program that makes an executor
for each batch of work would pay for that each time. So the last template is kept: for a short time, for an executor
that would start the same one, and only if nothing is left of the workers that were forked from it.

What "the same one" means
    The same things to import, and the same process around them: environment, folder, arguments, search path, limits,
    user, processors (see ``likeness``). Nobody has edited the program's own modules meanwhile. Standard output and
    error are handed over anew when the template is taken.

How long
    The template ends by itself after ``PARKED_S`` (``forking.py``), and when this process ends. No thread watches it:
    one would outlive the executor, and forks of this process would have to be warned of it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from contextlib import suppress
from functools import cache
from multiprocessing import spawn, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifepool._inside import state
from lifepool.backends.local import fork_safety as forked
from lifepool.backends.local.template.client import Template, interpreter_flags
from lifepool.backends.local.template.preparation import preparation
from lifepool.backends.local.template.surroundings import surroundings

if TYPE_CHECKING:
    from collections.abc import Hashable

_LIFEPOOL = str(Path(__file__).parents[3]) + os.sep

#: Lines of ``/proc/…/status`` that a new process inherits.
_INHERITED = ("Umask", "Uid", "Gid", "Groups", "SigIgn", "Cpus_allowed_list", "Mems_allowed_list", "CapEff", "Seccomp")


class ParkingPlace:
    """A place for one template that waits for its next pool, or its first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._template: Template | None = None
        self._likeness: Hashable = None
        forked.register(self)

    def take(self, likeness: Hashable) -> Template | None:
        """Return the template that is here if it is like this; nobody else gets it then."""
        with self._lock:
            if self._template is None or likeness is None or likeness != self._likeness:
                return None
            template, self._template = self._template, None
            return template

    def put(self, template: Template, likeness: Hashable) -> None:
        """Park a template in place of the one that is here, or end it if it can't be. Blocks for milliseconds."""
        if likeness is None or not template.park():
            template.stop()
        else:
            self._keep(template, likeness)

    def begin(self, preload: tuple[str, ...], name: str) -> None:
        """Have a template here that is starting, if none is here that is like it; what it needs is loaded meanwhile.

        Args:
            preload: What it will have to import.
            name: The pool's.
        """
        template = Template(preload, name=name)
        like = likeness(preload, (), template.main, name)
        with self._lock:
            is_here = self._template is not None and like == self._likeness
        if like is not None and not is_here:
            template.begin()
            self._keep(template, like)

    def _keep(self, template: Template, likeness: Hashable) -> None:
        with self._lock:
            before, self._template, self._likeness = self._template, template, likeness
        # Before multiprocessing waits for its children: finalizers with a priority run before that.
        util.Finalize(None, self.end, exitpriority=100)
        if before is not None:
            before.stop(patiently=False)

    def end(self) -> None:
        """End the template that is here, if there is one, and reap it."""
        with self._lock:
            template, self._template = self._template, None
        if template is not None:
            template.stop(patiently=False)

    def let_go_in_child(self) -> None:
        """Forget it in a forked copy of the server."""
        self._lock = threading.Lock()  # somebody may have held it
        self._template = None
        forked.register(self)


#: The one place of this process.
place: ParkingPlace = ParkingPlace()


def likeness(preload: tuple[str, ...], modules: tuple[str, ...], main: object, name: str) -> Hashable:
    """Describe the template that would be started now; equal descriptions are of equal templates.

    Args:
        preload: What it has to import.
        modules: What it imports as well.
        main: The main script.
        name: The pool's.

    Returns:
        The description. None where it can't be found out (it is Linux that tells), and in a worker, where what a task
        starts ends with it: then no template is kept.
    """
    if state.is_worker:
        return None
    with suppress(OSError, UnicodeDecodeError):
        os.fstat(1)  # what is closed can't be handed over
        os.fstat(2)
        told = {key: value for key, value in preparation(name).items() if key != "log_level"}
        around = surroundings(dict(os.environ))
        about: dict[str, Any] = {
            **told,
            "imports": (preload, modules, main),
            "files": [(file, _changed(file)) for file in _own_files(main)],
            "program": (spawn.get_executable(), sys.executable, interpreter_flags()),
            "surroundings": (around.folder, around.start_method, sorted(os.environ.items())),
            "process": (_status(), _read("limits"), _read("cgroup"), os.getpriority(os.PRIO_PROCESS, 0)),
        }
        return repr(sorted(about.items()))
    return None


def _status() -> list[str]:
    return [line for line in _read("status").splitlines() if line.partition(":")[0] in _INHERITED]


def _read(name: str) -> str:
    return Path("/proc/thread-self", name).read_text()


def _own_files(main: Any) -> list[str]:
    """Return the files of the modules that are the program's own: they may be edited while it runs."""
    files = [getattr(main, "path", None), *(getattr(each, "__file__", None) for each in list(sys.modules.values()))]
    return sorted({file for file in files if isinstance(file, str) and not file.startswith(_installed())})


@cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {_LIFEPOOL})


def _changed(file: str) -> int | None:
    """Return when a file was changed; None if it is gone."""
    with suppress(OSError):
        return os.stat(file).st_mtime_ns
    return None
