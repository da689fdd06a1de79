"""The settings of a pool: one table says what each is, what it may be, and how text becomes it.

Every argument of `Pool(...)` can also come from the environment as `LIFEPOOL_<NAME>`. An argument
that is given wins over the environment, also when it is None; an empty variable counts as not set.
A bad value is refused here, when the pool is made, and never later, when the first request comes.

Worker processes import this module: it must stay cheap, so what is rarely needed is imported late.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
import os
import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

from lifepool._host.cpus import CpuBudget, cpu_budget
from lifepool._transfer.reference import import_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ImportedFunction", "PoolConfig", "Setting", "describe_settings", "near_misses", "resolve"]

_PREFIX = "LIFEPOOL_"
_MIB = 1024 * 1024
#: An interpreter alone holds 9 MB (resident, Python 3.11, Linux): a smaller limit is a mistaken
#: unit, and would replace the worker after every task.
_LEAST_WORKER_MEMORY = 16 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The settings of one pool, checked and complete; `resolve` makes it.

    Times are in seconds, sizes in bytes. `describe_settings` says what each setting means.

    Attributes:
        max_workers_source: Where `max_workers` comes from, as a phrase for a log line.
        sizing: What the machine offers; None when `max_workers` was given.
        min_workers_given: Whether somebody asked for `min_workers`.
    """

    max_workers: int
    min_workers: int
    max_queue: int = 1000
    timeout: float | None = None
    max_tasks_per_worker: int | None = None
    max_worker_memory: int | None = None
    idle_timeout: float = 60.0
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = field(default=(), repr=False)  # may hold a secret
    preload: tuple[str, ...] = ()
    backend: str | object = field(default="local", repr=False)  # its URL may hold a password
    start_timeout: float = 60.0
    drain_timeout: float = 30.0
    shutdown_delay: float = 0.0
    max_payload: int = 256 * _MIB
    carry_context: tuple[Any, ...] = ()
    name: str = "pool"
    max_workers_source: str = "argument"
    sizing: CpuBudget | None = None
    min_workers_given: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name, what it may be and what it means.

    Attributes:
        name: The argument of `Pool(...)`.
        expected: What a value must be, as the end of "expected ...".
        meaning: What the setting does, in one line.
        check: Turns a value from code into the setting's own type, or raises.
        parse: Turns the text of a variable into a value for `check`, or raises.
        default: The value without argument and variable.
    """

    name: str
    expected: str
    meaning: str
    check: Callable[[object], object] = field(repr=False)
    parse: Callable[[str], object] = field(repr=False)
    default: object

    @property
    def variable(self) -> str:
        """The environment variable of this setting."""
        return _PREFIX + self.name.upper()

    def find(self, explicit: Mapping[str, object], environ: Mapping[str, str]) -> tuple[Any, str]:
        """Return the checked value and where it was found: "argument", the variable, "default".

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument has a wrong value, or the variable's text is no such value.
        """
        if self.name in explicit:
            return self._from_code(explicit[self.name]), "argument"
        text = environ.get(self.variable, "").strip()
        if text:
            return self._from_text(text), self.variable
        return self.default, "default"

    def _from_code(self, value: object) -> object:
        if value is None and self.default is None:
            return None
        or_none = ", or None" if self.default is None else ""
        try:
            return self.check(value)
        except TypeError:
            raise TypeError(_refusal(self.name, value, self.expected + or_none)) from None
        except (ValueError, OverflowError):
            raise ValueError(_refusal(self.name, value, self.expected + or_none)) from None

    def _from_text(self, text: str) -> object:
        try:
            return self.check(self.parse(text))
        except (TypeError, ValueError, OverflowError):
            raise ValueError(_refusal(self.variable, text, self.expected)) from None


def resolve(
    explicit: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
    *,
    budget: Callable[..., CpuBudget] = cpu_budget,
) -> PoolConfig:
    """Return the complete settings of a pool.

    Args:
        explicit: The arguments that were really given, by name. An argument that is here wins over
            the environment, also with its default value or None.
        environ: The environment variables.
        budget: Asked, with `environ=`, for the number of workers when `max_workers` is None.

    Raises:
        TypeError: An unknown argument, or one of the wrong type.
        ValueError: A wrong value, or settings that contradict each other. The message names the
            argument or variable, the value and what was expected.
    """
    _refuse_unknown(explicit)
    _warn_of_near_misses(environ)
    found = {setting.name: setting.find(explicit, environ) for setting in _SETTINGS}
    values = {name: value for name, (value, _) in found.items()}
    sources = {name: source for name, (_, source) in found.items()}
    if values["initargs"] and values["initializer"] is None:
        raise ValueError(f"{_label('initargs', sources)}: expected an initializer to pass them to")
    return PoolConfig(**{**values, **_workers(values, sources, environ, budget)})


def _workers(
    values: Mapping[str, Any],
    sources: Mapping[str, str],
    environ: Mapping[str, str],
    budget: Callable[..., CpuBudget],
) -> dict[str, Any]:
    """Return what `max_workers` and `min_workers` come to, and why."""
    largest, smallest = values["max_workers"], values["min_workers"]
    source, sizing = sources["max_workers"], None
    if largest is None:
        sizing = budget(environ=environ)
        # Somebody asked for min_workers; nobody asked for fewer: the machine's number gives way.
        largest = max(sizing.workers, smallest or 1)
        raised = largest > sizing.workers
        source = f"min_workers, above the {sizing.describe()}" if raised else sizing.source
    given = smallest is not None
    if smallest is None:
        smallest = largest
    if smallest > largest:
        label = _label("min_workers", sources)
        raise ValueError(_refusal(label, smallest, f"at most max_workers, which is {largest} ({source})"))
    return {
        "max_workers": largest,
        "min_workers": smallest,
        "max_workers_source": source,
        "sizing": sizing,
        "min_workers_given": given,
    }


def describe_settings() -> list[Setting]:
    """Return every setting of a pool, in the order of the documentation."""
    return list(_SETTINGS)


def _label(name: str, sources: Mapping[str, str]) -> str:
    return name if sources[name] == "argument" else sources[name]


def _refusal(label: str, value: object, expected: str) -> str:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return f"{label}={shown}: expected {expected}"


def _refuse_unknown(explicit: Mapping[str, object]) -> None:
    names = [setting.name for setting in _SETTINGS]
    for name in explicit:
        if name not in names:
            hint = _closest(name, names)
            advice = f"did you mean {hint!r}?" if hint else f"expected one of {', '.join(names)}"
            raise TypeError(f"unexpected argument {name!r}: {advice}")


def near_misses(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are probably misspelt settings, such as `LIFEPOOL_MAX_WORKER`, and what they should be.

    A name that is unlike any setting is somebody else's business.
    """
    known = {setting.variable: setting.name for setting in _SETTINGS}
    found = {}
    for variable in environ:
        if variable not in known and variable.upper().startswith(_PREFIX):
            hint = _closest(variable[len(_PREFIX) :].lower(), list(known.values()))
            if hint:
                found[variable] = _PREFIX + hint.upper()
    return found


def _warn_of_near_misses(environ: Mapping[str, str]) -> None:
    for variable, meant in near_misses(environ).items():
        import logging

        logging.getLogger("lifepool").warning(
            "%s is not a setting of lifepool and is ignored: did you mean %s?", variable, meant
        )


def _closest(name: str, names: list[str]) -> str | None:
    import difflib

    # 0.8: a letter too few or too many is found; "workers", as near to min as to max, is not.
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.8)), None)


# --- checks: a value from code becomes the setting's own type, or TypeError, or ValueError --------


def _whole_from(least: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool):  # an int to Python, a mistake to everybody else
            raise TypeError
        number = operator.index(cast("SupportsIndex", value))  # numpy's integers too, floats not
        if number < least:
            raise ValueError
        return number

    return check


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    number = float(value)
    if not 0 < number < math.inf:  # NaN compares false and is refused as well
        raise ValueError
    return number


def _seconds_or_0(value: object) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else _seconds(value)


_UNITS: dict[str, int] = {
    "": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate(["", *"KMGT"])},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", start=1)},
}


def _size_from(least: int) -> Callable[[object], int]:
    check = _whole_from(least)
    return lambda value: check(_bytes(value) if isinstance(value, str) else value)


def _bytes(text: str) -> int:
    """Return the bytes of `512MiB`. A bare `512M` is refused: some tools mean 2**20, some 10**6."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError
    return round(float(match[1]) * _UNITS[match[2].upper()])


@dataclass(frozen=True, slots=True)
class ImportedFunction:
    """A function by its name, imported where and when it is called: in the worker.

    The server process never imports it, however heavy its module is; and a module may name one of
    its own functions while it is itself still being imported.
    """

    path: str

    def __call__(self, *args: object) -> object:
        """Import the function and call it."""
        module, _, name = self.path.partition(":")
        return import_by_name(module, name)(*args)


_MODULE = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def _function(value: object) -> Callable[..., object]:
    if isinstance(value, str):
        if not re.fullmatch(f"{_MODULE}:{_MODULE}", value.strip()):
            raise ValueError
        return ImportedFunction(value.strip())
    if not callable(value):
        raise TypeError
    return value


def _arguments(value: object) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise TypeError
    return tuple(value)


def _json(text: str) -> object:
    import json

    return json.loads(text)


def _modules(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, (tuple, list)) or not all(isinstance(name, str) for name in value):
        raise TypeError
    if not all(re.fullmatch(_MODULE, name) for name in value):
        raise ValueError
    return tuple(value)


def _variables(value: object) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, (tuple, list)) or not all(isinstance(each, (str, ContextVar)) for each in value):
        raise TypeError
    if not all(re.fullmatch(f"{_MODULE}:{_MODULE}", each) for each in value if isinstance(each, str)):
        raise ValueError
    return tuple(value)


def _backend(value: object) -> object:
    if isinstance(value, str):
        return _line(value)
    if type(value).__module__ == "builtins":  # a number, None, or a class in place of an instance
        raise TypeError
    return value


def _line(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value.strip() or not value.isprintable():
        raise ValueError
    return value.strip()


# --- the table ------------------------------------------------------------------------------------

_DEFAULTS = {
    each.name: None if each.default is dataclasses.MISSING else each.default for each in dataclasses.fields(PoolConfig)
}


def _setting(
    name: str,
    expected: str,
    meaning: str,
    check: Callable[[object], object],
    parse: Callable[[str], object] = str,
) -> Setting:
    return Setting(name, expected, meaning, check, parse, _DEFAULTS[name])


_SECONDS = "a number of seconds > 0"
_WHOLE = "a whole number >= 1"
_SETTINGS = (
    _setting(
        "max_workers",
        _WHOLE,
        "The most workers; None: the CPUs that this container may use, shared among its servers.",
        _whole_from(1),
        int,
    ),
    _setting(
        "min_workers",
        "a whole number >= 0",
        "The fewest workers, kept warm; None: as many as max_workers.",
        _whole_from(0),
        int,
    ),
    _setting(
        "max_queue",
        _WHOLE,
        "The most tasks that wait for a worker; the next one is refused with QueueFull.",
        _whole_from(1),
        int,
    ),
    _setting(
        "timeout",
        _SECONDS,
        "A task's time from submission to result, waiting included; None: no limit.",
        _seconds,
        float,
    ),
    _setting(
        "max_tasks_per_worker",
        _WHOLE,
        "A worker is replaced after so many tasks; None: never.",
        _whole_from(1),
        int,
    ),
    _setting(
        "max_worker_memory",
        "a size of at least 16 MiB, in bytes or as in '512MiB' or '1GB'",
        "A worker that holds more memory is replaced after its task; None: no limit.",
        _size_from(_LEAST_WORKER_MEMORY),
    ),
    _setting(
        "idle_timeout",
        _SECONDS,
        "A worker above min_workers is stopped after so long without a task.",
        _seconds,
        float,
    ),
    _setting(
        "initializer",
        "a function, or its name as in 'package.module:function'",
        "Called once in each worker before its first task: load the model there.",
        _function,
    ),
    _setting(
        "initargs",
        "a tuple or list of arguments (in the environment: a JSON list)",
        "The arguments of the initializer.",
        _arguments,
        _json,
    ),
    _setting(
        "preload",
        "names of modules (in the environment: separated by commas)",
        "Modules that are imported once, before the workers are forked from the clean template.",
        _modules,
    ),
    _setting(
        "backend",
        "a backend's name or URL such as 'local' or 'celery+redis://host', or a Backend",
        "Where the tasks run.",
        _backend,
    ),
    _setting(
        "start_timeout",
        _SECONDS,
        "A worker that is not ready after so long counts as failed.",
        _seconds,
        float,
    ),
    _setting(
        "drain_timeout",
        _SECONDS,
        "At shutdown, what runs and waits has so long to finish.",
        _seconds,
        float,
    ),
    _setting(
        "shutdown_delay",
        "a number of seconds >= 0",
        "SIGTERM turns readiness red at once and is passed on to the server after so long.",
        _seconds_or_0,
        float,
    ),
    _setting(
        "max_payload",
        "a size of at least 1 byte, in bytes or as in '512MiB' or '1GB'",
        "The largest pickled arguments or result of a task.",
        _size_from(1),
    ),
    _setting(
        "carry_context",
        "context variables, or names as in 'package.module:variable' (in the environment: separated by commas)",
        "Context variables whose values go along with each task into the worker.",
        _variables,
    ),
    _setting(
        "name",
        "a line of text",
        "The pool's name in log lines, and in the names of its processes and threads.",
        _line,
    ),
)
