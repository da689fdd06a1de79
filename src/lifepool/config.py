"""The settings of a pool, declared once: what each is, what it may be, and how text becomes it.

``PoolSettings`` is the declaration. The arguments of ``Pool(...)`` with their types, its docstring, the environment
variables, the checks and docs/reference/configuration.md all follow from it; ``PoolConfig`` has the defaults.

Every argument of ``Pool(...)`` can also come from the environment as ``LIFEPOOL_<NAME>``. An argument that is given
wins over the environment, also when it is None; an empty variable counts as not set. A bad value is refused here, when
the pool is made, and never later, when the first request comes.

Worker processes import this module: it must stay cheap, so what is rarely needed is imported late.
"""

# No annotations from the future: those of PoolSettings are read at run time.

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, TypedDict, get_type_hints

from lifepool._config import checks
from lifepool._config.checks import ImportedFunction
from lifepool._host.cpus import CpuBudget, cpu_budget

__all__ = ["ImportedFunction", "PoolConfig", "PoolSettings", "Setting", "describe_settings", "near_misses", "resolve"]

_PREFIX = "LIFEPOOL_"
_MIB = 1024 * 1024
#: An interpreter alone holds 9 MB (resident, Python 3.11, Linux): a smaller limit is a mistaken unit, and would replace
#: the worker after every task.
_LEAST_WORKER_MEMORY = 16 * _MIB


# -- the declaration -----------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """What is declared of a setting beside its name and type.

    Attributes:
        meaning: What it does, for the documentation.
        expected: What a value must be, as the end of "expected ...".
        check: Turns a value from code into the setting's own type, or raises.
        parse: Turns the text of a variable into a value for ``check``, or raises.
    """

    meaning: str
    expected: str
    check: Callable[[object], object]
    parse: Callable[[str], object] = str


_SECONDS = "a number of seconds > 0"
_WHOLE = "a whole number >= 1"


class PoolSettings(TypedDict, total=False):
    """The arguments of ``Pool(...)``: for each, the type that callers may give, and the rule that it follows."""

    max_workers: Annotated[
        int | None,
        Rule(
            "Workers there may be. None: as many CPUs as this container may really use, divided by the number of server"
            " processes.",
            _WHOLE,
            checks.whole_from(1),
            int,
        ),
    ]
    min_workers: Annotated[
        int | None,
        Rule(
            "Workers kept when there is nothing to do. None: `max_workers`.",
            "a whole number >= 0",
            checks.whole_from(0),
            int,
        ),
    ]
    max_queue: Annotated[
        int,
        Rule("Tasks that may wait; one more is refused with `QueueFull`.", _WHOLE, checks.whole_from(1), int),
    ]
    target_wait: Annotated[
        float,
        Rule(
            "Seconds that requests may have to wait for this pool for long, or as long as a task takes if that is more."
            " For `LoadShedding` only, which refuses the rest; three times as much is allowed for a moment.",
            _SECONDS,
            checks.seconds,
            float,
        ),
    ]
    timeout: Annotated[
        float | None,
        Rule(
            "Seconds that a task may take, waiting included, unless it says otherwise. None: no limit.",
            _SECONDS,
            checks.seconds,
            float,
        ),
    ]
    max_tasks_per_worker: Annotated[
        int | None,
        Rule("Tasks after which a worker is replaced. None: never.", _WHOLE, checks.whole_from(1), int),
    ]
    max_worker_memory: Annotated[
        int | str | None,
        Rule(
            "Bytes of resident memory past which a worker is replaced after its task. A task that allocates more than"
            " twice as much gets a `MemoryError`. None: no limit.",
            "a size of at least 16 MiB, in bytes or as in '512MiB' or '1GB'",
            checks.size_from(_LEAST_WORKER_MEMORY),
        ),
    ]
    idle_timeout: Annotated[
        float,
        Rule(
            "Seconds without work after which a worker above `min_workers` is let go.", _SECONDS, checks.seconds, float
        ),
    ]
    initializer: Annotated[
        Callable[..., object] | str | None,
        Rule(
            "Called once in each worker before its first task: load the model there.",
            "a function, or its name as in 'package.module:function'",
            checks.function,
        ),
    ]
    initargs: Annotated[
        tuple[Any, ...],
        Rule(
            "The arguments of the initializer.",
            "a tuple or list of arguments (in the environment: a JSON list)",
            checks.arguments,
            checks.parse_json,
        ),
    ]
    preload: Annotated[
        Iterable[str],
        Rule(
            "Names of modules that are imported once, in the clean process that workers are forked from.",
            "names of modules (in the environment: separated by commas)",
            checks.modules,
        ),
    ]
    backend: Annotated[
        Any,
        Rule(
            '`"local"` (this host\'s processes), `"inline"` (the caller\'s process, for tests), `"executor"` (the'
            ' standard library\'s `ProcessPoolExecutor`), the URL of a cluster such as `"celery+redis://host"`, any'
            " `concurrent.futures.Executor`, or a `Backend`.",
            "a backend's name or URL such as 'local' or 'celery+redis://host', or a Backend",
            checks.backend,
        ),
    ]
    overflow: Annotated[
        Any,
        Rule(
            "The URL of a cluster that takes what this machine would refuse, or let wait for longer than `target_wait`."
            " None: that is refused, or waits.",
            "the URL of a cluster such as 'celery+redis://host', or a Backend",
            checks.backend,
        ),
    ]
    fallback: Annotated[
        str | None,
        Rule(
            '`"local"`: what a lost cluster can\'t take runs on this machine, behind a circuit breaker. None: it fails'
            " with `BackendUnavailable`.",
            "'local'",
            checks.one_of("local"),
        ),
    ]
    start_timeout: Annotated[
        float, Rule("Seconds within which a worker must be ready.", _SECONDS, checks.seconds, float)
    ]
    drain_timeout: Annotated[
        float,
        Rule("Seconds that the end of the pool waits for tasks to finish.", _SECONDS, checks.seconds, float),
    ]
    shutdown_delay: Annotated[
        float,
        Rule(
            "Seconds from SIGTERM, in which readiness is red and everything goes on, until the server hears of it. For"
            " load balancers that need a while to look elsewhere.",
            "a number of seconds >= 0",
            checks.seconds_or_zero,
            float,
        ),
    ]
    max_payload: Annotated[
        int | str,
        Rule(
            "Bytes that pickled arguments or results may have.",
            "a size of at least 1 byte, in bytes or as in '512MiB' or '1GB'",
            checks.size_from(1),
        ),
    ]
    carry_context: Annotated[
        Iterable[ContextVar[Any] | str],
        Rule(
            'Context variables, or their names as in `"package.module:variable"`, whose values go along with each task'
            " into the worker.",
            "context variables, or names as in 'package.module:variable' (in the environment: separated by commas)",
            checks.variables,
        ),
    ]
    name: Annotated[
        str, Rule("Used in log lines and in the names of processes.", "a line of text", checks.line_of_text)
    ]


# -- what comes of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The settings of one pool, checked and complete; ``resolve`` makes it.

    Times are in seconds, sizes in bytes. ``describe_settings`` says what each setting means.

    Attributes:
        max_workers_source: Where `max_workers` comes from, as a phrase for a log line.
        sizing: What the machine offers; None when `max_workers` was given.
        min_workers_given: Whether somebody asked for `min_workers`.
    """

    max_workers: int
    min_workers: int
    max_queue: int = 1000
    target_wait: float = 0.1
    timeout: float | None = None
    max_tasks_per_worker: int | None = None
    max_worker_memory: int | None = None
    idle_timeout: float = 60.0
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = field(default=(), repr=False)  # may hold a secret
    preload: tuple[str, ...] = ()
    backend: str | object = field(default="local", repr=False)  # its URL may hold a password
    overflow: str | object | None = field(default=None, repr=False)  # as well
    fallback: str | None = None
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
        name: The argument of ``Pool(...)``.
        accepts: The type of the argument.
        default: The value without argument and variable.
        rule: What else is declared of it.
    """

    name: str
    accepts: Any = field(repr=False)
    default: object
    rule: Rule = field(repr=False)

    @property
    def meaning(self) -> str:
        """Return what it does, for the documentation."""
        return self.rule.meaning

    @property
    def expected(self) -> str:
        """Return what a value must be."""
        return self.rule.expected

    @property
    def variable(self) -> str:
        """Return the environment variable of this setting."""
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
            return self.rule.check(value)
        except TypeError:
            raise TypeError(_refusal(self.name, value, self.expected + or_none)) from None
        except (ValueError, OverflowError):
            raise ValueError(_refusal(self.name, value, self.expected + or_none)) from None

    def _from_text(self, text: str) -> object:
        try:
            return self.rule.check(self.rule.parse(text))
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
    """Decide what ``max_workers`` and ``min_workers`` come to, and why."""
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


# -- the table -----------------------------------------------------------------------------------------------------


def _declared() -> tuple[Setting, ...]:
    """Read the declaration."""
    defaults = {each.name: each.default for each in dataclasses.fields(PoolConfig)}
    table = []
    for name, hint in get_type_hints(PoolSettings, include_extras=True).items():
        default = None if defaults[name] is dataclasses.MISSING else defaults[name]
        table.append(Setting(name, hint.__origin__, default, *hint.__metadata__))
    return tuple(table)


_SETTINGS = _declared()
