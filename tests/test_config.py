"""Every setting from code and from the environment, who wins, and what a bad value is told."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
import pickle
import re
import subprocess
import sys
from contextvars import ContextVar
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from lifepool._host.cpus import CpuBudget
from lifepool.config import ImportedFunction, PoolConfig, describe_settings, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1024**2
FOUR_CPUS = CpuBudget(
    workers=4,
    cpus=4.0,
    host_cpus=64,
    server_processes=1,
    source="4 CPUs (scheduler affinity; host has 64)",
)


def config(explicit: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> PoolConfig:
    return resolve(explicit or {}, environ or {}, budget=lambda environ: FOUR_CPUS)


class Backend:
    """Any object that is not a builtin may be a backend: the pool finds out when it starts it."""


BACKEND = Backend()
LOAD = ImportedFunction("shop.models:load")
VARIABLE: ContextVar[str] = ContextVar("user")

FROM_CODE = [
    ("max_workers", 3, 3),
    ("min_workers", 2, 2),
    ("min_workers", 0, 0),
    ("max_queue", 7, 7),
    ("target_wait", 1, 1.0),
    ("timeout", 2, 2.0),
    ("timeout", 0.5, 0.5),
    ("timeout", Fraction(1, 2), 0.5),
    ("timeout", None, None),
    ("max_tasks_per_worker", 100, 100),
    ("max_tasks_per_worker", None, None),
    ("max_worker_memory", 512 * MIB, 512 * MIB),
    ("max_worker_memory", "512MiB", 512 * MIB),
    ("max_worker_memory", None, None),
    ("idle_timeout", 5, 5.0),
    ("initializer", print, print),
    ("initializer", "shop.models:load", LOAD),
    ("initializer", None, None),
    ("initargs", (), ()),
    ("preload", ["shop.models", "re"], ("shop.models", "re")),
    ("preload", "shop.models, re,", ("shop.models", "re")),
    ("preload", (), ()),
    ("backend", "inline", "inline"),
    ("backend", BACKEND, BACKEND),
    ("overflow", "celery+redis://localhost", "celery+redis://localhost"),
    ("overflow", BACKEND, BACKEND),
    ("overflow", None, None),
    ("fallback", "local", "local"),
    ("fallback", None, None),
    ("start_timeout", 5, 5.0),
    ("drain_timeout", 5, 5.0),
    ("shutdown_delay", 0, 0.0),
    ("shutdown_delay", 5, 5.0),
    ("max_payload", 1, 1),
    ("max_payload", "1.5 kB", 1500),
    ("carry_context", "shop.context:user", ("shop.context:user",)),
    ("carry_context", [VARIABLE, "shop:lang"], (VARIABLE, "shop:lang")),
    ("name", " crunch ", "crunch"),
]

FROM_ENVIRONMENT = [
    ("max_workers", "3", 3),
    ("max_workers", " 3 ", 3),
    ("max_workers", "", 4),
    ("min_workers", "0", 0),
    ("max_queue", "7", 7),
    ("target_wait", "0.2", 0.2),
    ("timeout", "2.5", 2.5),
    ("timeout", "  ", None),
    ("max_tasks_per_worker", "100", 100),
    ("max_worker_memory", "536870912", 512 * MIB),
    ("max_worker_memory", "512MiB", 512 * MIB),
    ("max_worker_memory", "1 gb", 10**9),
    ("max_worker_memory", "1.5GiB", 1536 * MIB),
    ("max_worker_memory", "2TB", 2 * 10**12),
    ("idle_timeout", "5", 5.0),
    ("initializer", "shop.models:load", LOAD),
    ("preload", "shop.models,re", ("shop.models", "re")),
    ("backend", "celery+redis://localhost", "celery+redis://localhost"),
    ("overflow", "celery+redis://localhost", "celery+redis://localhost"),
    ("fallback", "local", "local"),
    ("start_timeout", "5", 5.0),
    ("drain_timeout", "5", 5.0),
    ("shutdown_delay", "0", 0.0),
    ("shutdown_delay", "5", 5.0),
    ("max_payload", "64KiB", 65536),
    ("max_payload", "10B", 10),
    ("carry_context", "shop:user, shop:lang", ("shop:user", "shop:lang")),
    ("name", "crunch", "crunch"),
]


@pytest.mark.parametrize(("name", "value", "expected"), FROM_CODE)
def test_every_setting_can_be_given_in_code(name: str, value: object, expected: object) -> None:
    found = getattr(config({name: value}), name)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("name", "text", "expected"), FROM_ENVIRONMENT)
def test_every_setting_can_be_given_in_the_environment(name: str, text: str, expected: object) -> None:
    found = getattr(config(environ={f"LIFEPOOL_{name.upper()}": text}), name)

    assert found == expected
    assert type(found) is type(expected)


def test_the_tables_above_leave_no_setting_out() -> None:
    names = {setting.name for setting in describe_settings()}

    assert {name for name, *_ in FROM_CODE} == names
    assert {name for name, *_ in FROM_ENVIRONMENT} == names - {"initargs"}  # tested below


@pytest.mark.parametrize("value", [["de", 3], ("de", 3)])
def test_initargs_come_with_an_initializer(value: object) -> None:
    assert config({"initializer": print, "initargs": value}).initargs == ("de", 3)


def test_initargs_in_the_environment_are_a_json_list() -> None:
    environ = {"LIFEPOOL_INITIALIZER": "m:load", "LIFEPOOL_INITARGS": '["de", {"size": 3}]'}

    assert config(environ=environ).initargs == ("de", {"size": 3})


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, t, _ in FROM_ENVIRONMENT if t.strip()])
def test_an_argument_wins_over_the_environment_even_over_nonsense(name: str, text: str) -> None:
    value = next(v for n, v, _ in FROM_CODE if n == name)
    alone = config({name: value})

    assert config({name: value}, {f"LIFEPOOL_{name.upper()}": text}) == alone
    assert config({name: value}, {f"LIFEPOOL_{name.upper()}": "\0 nonsense"}) == alone


@pytest.mark.parametrize("name", ["timeout", "max_tasks_per_worker", "max_worker_memory"])
def test_an_explicit_none_wins_over_the_environment(name: str) -> None:
    environ = {f"LIFEPOOL_{name.upper()}": "99999999"}

    assert getattr(config({name: None}, environ), name) is None
    assert getattr(config({}, environ), name) is not None


def test_the_real_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEPOOL_NAME", "crunch")
    monkeypatch.setenv("WEB_CONCURRENCY", "100000")

    found = resolve({})

    assert (found.name, found.max_workers, found.min_workers) == ("crunch", 1, 1)
    assert found.sizing is not None
    assert "divided by 100000 server processes" in found.max_workers_source


# --- the number of workers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("explicit", "environ", "workers", "source"),
    [
        ({}, {}, (4, 4), FOUR_CPUS.source),
        ({"max_workers": None}, {"LIFEPOOL_MAX_WORKERS": "9"}, (4, 4), FOUR_CPUS.source),
        ({"min_workers": 1}, {}, (1, 4), FOUR_CPUS.source),
        ({"min_workers": 0}, {}, (0, 4), FOUR_CPUS.source),
        ({"min_workers": 6}, {}, (6, 6), f"min_workers, above the 4 workers: {FOUR_CPUS.source}"),
        ({"max_workers": 2}, {}, (2, 2), "argument"),
        ({}, {"LIFEPOOL_MAX_WORKERS": "9"}, (9, 9), "LIFEPOOL_MAX_WORKERS"),
        ({"max_workers": 2}, {"LIFEPOOL_MIN_WORKERS": "2"}, (2, 2), "argument"),
        (
            {"min_workers": None, "max_workers": 2},
            {"LIFEPOOL_MIN_WORKERS": "1"},
            (2, 2),
            "argument",
        ),
    ],
)
def test_the_number_of_workers_is_settled_and_says_where_it_comes_from(
    explicit: Mapping[str, object],
    environ: Mapping[str, str],
    workers: tuple[int, int],
    source: str,
) -> None:
    found = config(explicit, environ)

    assert (found.min_workers, found.max_workers) == workers
    assert found.max_workers_source == source
    assert (found.sizing is FOUR_CPUS) == ("argument" not in source and "LIFE" not in source)


# --- bad values -----------------------------------------------------------------------------------

WHOLE = "a whole number >= 1"
SECONDS = "a number of seconds > 0"
MEMORY = "a size of at least 16 MiB, in bytes or as in '512MiB' or '1GB'"
VARIABLES = "context variables, or names as in 'package.module:variable' (in the environment: separated by commas)"
PAYLOAD = MEMORY.replace("16 MiB", "1 byte")
FUNCTION = "a function, or its name as in 'package.module:function'"
ARGUMENTS = "a tuple or list of arguments (in the environment: a JSON list)"
MODULES = "names of modules (in the environment: separated by commas)"
A_BACKEND = "a backend's name or URL such as 'local' or 'celery+redis://host', or a Backend"
A_CLUSTER = "the URL of a cluster such as 'celery+redis://host', or a Backend"
LINE = "a line of text"

BAD_IN_CODE: list[tuple[str, Any, type[Exception], str]] = [
    ("max_workers", 0, ValueError, f"max_workers=0: expected {WHOLE}, or None"),
    ("max_workers", -1, ValueError, f"max_workers=-1: expected {WHOLE}, or None"),
    ("max_workers", "2", TypeError, f"max_workers='2': expected {WHOLE}, or None"),
    ("max_workers", 2.0, TypeError, f"max_workers=2.0: expected {WHOLE}, or None"),
    ("max_workers", True, TypeError, f"max_workers=True: expected {WHOLE}, or None"),
    ("min_workers", -1, ValueError, "min_workers=-1: expected a whole number >= 0, or None"),
    ("max_queue", None, TypeError, f"max_queue=None: expected {WHOLE}"),
    ("max_queue", 0, ValueError, f"max_queue=0: expected {WHOLE}"),
    ("target_wait", 0, ValueError, f"target_wait=0: expected {SECONDS}"),
    ("timeout", 0, ValueError, f"timeout=0: expected {SECONDS}, or None"),
    ("timeout", -1.5, ValueError, f"timeout=-1.5: expected {SECONDS}, or None"),
    ("timeout", math.nan, ValueError, f"timeout=nan: expected {SECONDS}, or None"),
    ("timeout", math.inf, ValueError, f"timeout=inf: expected {SECONDS}, or None"),
    ("timeout", "2", TypeError, f"timeout='2': expected {SECONDS}, or None"),
    ("timeout", True, TypeError, f"timeout=True: expected {SECONDS}, or None"),
    ("timeout", 10**400, ValueError, f"timeout=1{'0' * 76}...: expected {SECONDS}, or None"),
    ("max_tasks_per_worker", 0, ValueError, f"max_tasks_per_worker=0: expected {WHOLE}, or None"),
    ("max_worker_memory", 512, ValueError, f"max_worker_memory=512: expected {MEMORY}, or None"),
    ("max_worker_memory", 1e9, TypeError, f"max_worker_memory=1000000000.0: expected {MEMORY}"),
    ("max_worker_memory", "1G", ValueError, f"max_worker_memory='1G': expected {MEMORY}, or None"),
    ("idle_timeout", None, TypeError, f"idle_timeout=None: expected {SECONDS}"),
    ("initializer", 3, TypeError, f"initializer=3: expected {FUNCTION}, or None"),
    ("initializer", "load", ValueError, f"initializer='load': expected {FUNCTION}, or None"),
    ("initializer", "m:1", ValueError, f"initializer='m:1': expected {FUNCTION}, or None"),
    ("initargs", "de", TypeError, f"initargs='de': expected {ARGUMENTS}"),
    ("initargs", ("de",), ValueError, "initargs: expected an initializer to pass them to"),
    ("preload", 3, TypeError, f"preload=3: expected {MODULES}"),
    ("preload", [3], TypeError, f"preload=[3]: expected {MODULES}"),
    ("preload", ["a b"], ValueError, f"preload=['a b']: expected {MODULES}"),
    ("preload", "model.py, ./x", ValueError, f"preload='model.py, ./x': expected {MODULES}"),
    ("backend", None, TypeError, f"backend=None: expected {A_BACKEND}"),
    ("backend", Backend, TypeError, "backend=<class"),
    ("backend", " ", ValueError, f"backend=' ': expected {A_BACKEND}"),
    ("overflow", 3, TypeError, f"overflow=3: expected {A_CLUSTER}, or None"),
    ("overflow", "", ValueError, f"overflow='': expected {A_CLUSTER}, or None"),
    ("fallback", "inline", ValueError, "fallback='inline': expected 'local', or None"),
    ("fallback", 3, TypeError, "fallback=3: expected 'local', or None"),
    ("start_timeout", 0, ValueError, f"start_timeout=0: expected {SECONDS}"),
    ("drain_timeout", 0, ValueError, f"drain_timeout=0: expected {SECONDS}"),
    ("shutdown_delay", -1, ValueError, "shutdown_delay=-1: expected a number of seconds >= 0"),
    ("shutdown_delay", False, TypeError, "shutdown_delay=False: expected a number of seconds >= 0"),
    ("max_payload", 0, ValueError, f"max_payload=0: expected {PAYLOAD}"),
    ("carry_context", [3], TypeError, f"carry_context=[3]: expected {VARIABLES}"),
    ("carry_context", ["user"], ValueError, f"carry_context=['user']: expected {VARIABLES}"),
    ("name", 3, TypeError, f"name=3: expected {LINE}"),
    ("name", "", ValueError, f"name='': expected {LINE}"),
    ("name", "a\nb", ValueError, f"name='a\\nb': expected {LINE}"),
]

BAD_IN_ENVIRONMENT = [
    ("MAX_WORKERS", "two", WHOLE),
    ("MAX_WORKERS", "0", WHOLE),
    ("MAX_WORKERS", "2.5", WHOLE),
    ("MAX_WORKERS", "None", WHOLE),
    ("MIN_WORKERS", "-1", "a whole number >= 0"),
    ("MAX_QUEUE", "many", WHOLE),
    ("TARGET_WAIT", "0", SECONDS),
    ("TIMEOUT", "2s", SECONDS),
    ("TIMEOUT", "nan", SECONDS),
    ("TIMEOUT", "inf", SECONDS),
    ("TIMEOUT", "-1", SECONDS),
    ("TIMEOUT", "0", SECONDS),
    ("MAX_TASKS_PER_WORKER", "0", WHOLE),
    ("MAX_WORKER_MEMORY", "512M", MEMORY),
    ("MAX_WORKER_MEMORY", "512", MEMORY),
    ("MAX_WORKER_MEMORY", "lots", MEMORY),
    ("MAX_WORKER_MEMORY", "-1GB", MEMORY),
    ("MAX_WORKER_MEMORY", "9" * 400, MEMORY),
    ("IDLE_TIMEOUT", "soon", SECONDS),
    ("INITIALIZER", "shop.models.load", FUNCTION),
    ("INITARGS", "de", ARGUMENTS),
    ("INITARGS", '"de"', ARGUMENTS),
    ("PRELOAD", "shop models", MODULES),
    ("BACKEND", "a\nb", A_BACKEND),
    ("OVERFLOW", "a\nb", A_CLUSTER),
    ("FALLBACK", "inline", "'local'"),
    ("START_TIMEOUT", "0", SECONDS),
    ("DRAIN_TIMEOUT", "0", SECONDS),
    ("SHUTDOWN_DELAY", "soon", "a number of seconds >= 0"),
    ("MAX_PAYLOAD", "0", PAYLOAD),
    ("CARRY_CONTEXT", "user", VARIABLES),
    ("NAME", "a\nb", LINE),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), BAD_IN_CODE)
def test_a_bad_argument_is_refused_with_its_name_its_value_and_what_was_expected(
    name: str, value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}") as caught:
        config({name: value})

    assert type(caught.value) is error


@pytest.mark.parametrize(("name", "text", "expected"), BAD_IN_ENVIRONMENT)
def test_a_bad_variable_is_refused_with_its_name_its_text_and_what_was_expected(
    name: str, text: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=r"^LIFEPOOL_") as caught:
        config(environ={f"LIFEPOOL_{name}": text})

    shown = repr(text) if len(text) < 80 else repr(text)[:77] + "..."
    assert str(caught.value) == f"LIFEPOOL_{name}={shown}: expected {expected}"


def test_the_tables_of_bad_values_leave_no_setting_out() -> None:
    names = {setting.name for setting in describe_settings()}

    assert {name for name, *_ in BAD_IN_CODE} == names
    assert {name.lower() for name, *_ in BAD_IN_ENVIRONMENT} == names


@pytest.mark.parametrize(
    ("explicit", "environ", "message"),
    [
        (
            {"min_workers": 3, "max_workers": 2},
            {},
            "min_workers=3: expected at most max_workers, which is 2 (argument)",
        ),
        (
            {"max_workers": 2},
            {"LIFEPOOL_MIN_WORKERS": "3"},
            "LIFEPOOL_MIN_WORKERS=3: expected at most max_workers, which is 2 (argument)",
        ),
        (
            {"min_workers": 3},
            {"LIFEPOOL_MAX_WORKERS": "2"},
            "min_workers=3: expected at most max_workers, which is 2 (LIFEPOOL_MAX_WORKERS)",
        ),
        (
            {},
            {"LIFEPOOL_INITARGS": "[1]"},
            "LIFEPOOL_INITARGS: expected an initializer to pass them to",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    explicit: Mapping[str, object], environ: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        config(explicit, environ)


def test_a_misspelled_argument_is_refused_with_the_right_name() -> None:
    with pytest.raises(TypeError, match=r"^unexpected argument 'max_worker': did you mean 'max_w"):
        config({"max_worker": 2})


def test_an_unknown_argument_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(TypeError, match=r"'colour': expected one of max_workers, min_workers, "):
        config({"colour": "red"})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LIFEPOOL_MAX_WORKER", "LIFEPOOL_MAX_WORKERS"),
        ("LIFEPOOL_TIMEOUTS", "LIFEPOOL_TIMEOUT"),
        ("lifepool_max_queue", "LIFEPOOL_MAX_QUEUE"),
    ],
)
def test_a_misspelled_variable_is_ignored_with_a_warning_that_names_the_right_one(
    caplog: pytest.LogCaptureFixture, variable: str, meant: str
) -> None:
    with caplog.at_level(logging.WARNING, logger="lifepool"):
        found = config(environ={variable: "7"})

    assert found == config()
    assert caplog.messages == [f"{variable} is not a setting of lifepool and is ignored: did you mean {meant}?"]


def test_a_variable_unlike_any_setting_is_ignored_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environ = {
        "LIFEPOOL_LOG_LEVEL": "debug",
        "LIFEPOOL_WORKERS": "3",
        "LIFEPOOL_": "x",
        "MAX_WORKERS": "3",
    }

    assert config(environ=environ) == config()
    assert caplog.messages == []


# --- the configuration itself ---------------------------------------------------------------------


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().max_workers = 3  # type: ignore[misc]


def test_a_configuration_shows_no_secret() -> None:
    url = "celery+redis://:hunter2@host"
    found = config({"backend": url, "overflow": url, "initializer": print, "initargs": ["hunter2"]})

    assert "hunter2" not in repr(found)


def test_the_settings_describe_themselves_for_the_documentation() -> None:
    settings = {setting.name: setting for setting in describe_settings()}
    fields = {each.name for each in dataclasses.fields(PoolConfig)}

    assert set(settings) == fields - {"max_workers_source", "sizing", "min_workers_given"}
    assert settings["max_queue"].variable == "LIFEPOOL_MAX_QUEUE"
    for name, setting in settings.items():
        assert setting.expected
        assert setting.meaning.endswith(".")
        if name not in ("max_workers", "min_workers"):
            assert getattr(config(), name) == setting.default


def test_a_named_function_is_imported_only_when_it_is_called() -> None:
    found = config({"initializer": "no.such.module:load"}).initializer
    assert found is not None

    with pytest.raises(ModuleNotFoundError, match="No module named 'no'"):
        found()


def test_a_named_function_travels_to_the_worker_and_is_called_with_its_arguments() -> None:
    found = config({"initializer": "fractions:Fraction.from_float"}).initializer

    assert pickle.loads(pickle.dumps(found))(0.5) == Fraction(1, 2)


def test_a_partial_is_an_initializer_too() -> None:
    function = functools.partial(print, "ready")

    assert config({"initializer": function}).initializer is function


def test_the_configuration_is_cheap_to_import() -> None:
    heavy = ["asyncio", "difflib", "importlib.metadata", "json", "logging", "multiprocessing"]
    code = f"import sys, lifepool.config; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.strip() == "[]"
