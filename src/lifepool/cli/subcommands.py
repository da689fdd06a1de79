"""The ``lifepool`` command: one function a subcommand, which says what it takes and leaves the work to its module.

What a subcommand does is in ``lifepool.cli``, one file or folder each. It is imported inside the function, so
that ``lifepool --help`` and every other subcommand stay quick.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import lifepool

if TYPE_CHECKING:
    from collections.abc import Iterator

app: typer.Typer = typer.Typer(
    help="The process pool that lives as long as your FastAPI app.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a plain traceback: it can be pasted into an issue
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lifepool {lifepool.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The process pool that lives as long as your FastAPI app."""


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders; the folder you are in by default.")
    ] = None,
    select: Annotated[list[str] | None, typer.Option(help="Only these rules: LP001,LP004")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Not these rules.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not these files or folders; patterns.")] = None,
    form: Annotated[str, typer.Option("--format", help="text, json, sarif or github")] = "text",
    explain: Annotated[str | None, typer.Option(help="Explain a rule, and check nothing.")] = None,
) -> None:
    """Find in source what blocks the event loop, hangs or breaks a pool. Ends with 1 if it finds something."""
    from lifepool.cli.check import command
    from lifepool.cli.check.settings import WrongUsage

    try:
        if explain is not None:
            typer.echo(command.explain(explain))
            return
        report, clean = command.check(
            paths or [Path()], select=select or (), ignore=ignore or (), exclude=exclude or (), form=form
        )
    except WrongUsage as error:
        typer.echo(f"lifepool check: {error}", err=True)
        raise typer.Exit(2) from None
    if report:
        typer.echo(report)
    raise typer.Exit(0 if clean else 1)


_JSON = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


@app.command()
def doctor(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:POOL", help="Your pool, or the app around it; or a folder: each app of the project in it."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds for your module to import and a worker to start.")
    ] = 60.0,
    factory: Annotated[bool, typer.Option("--factory", help="What you name is a function that makes the app.")] = False,
    backend: Annotated[
        str | None, typer.Option(help="Try the way to this cluster instead, step by step: celery+redis://host/0")
    ] = None,
    as_json: _JSON = False,
) -> None:
    """Look at this machine, try the engine, check your pool or project; say what to fix.

    The exit code is 1 if something does not work, else 0. What you name is imported, in a process of its own.
    """
    from lifepool.cli.doctor.examination import diagnose, diagnose_cluster, diagnose_project
    from lifepool.cli.doctor.render import render
    from lifepool.cli.output import show

    folder = _folder(target)
    if folder is None:
        _check_name(target, "MODULE:POOL")
    if backend is not None and target is not None:
        raise typer.BadParameter("give a pool or --backend, not both: each is a report of its own")
    if backend is not None:
        report = diagnose_cluster(backend, timeout)
    elif folder is not None:
        with _settings_errors("doctor"):
            report = diagnose_project(folder, timeout)
    else:
        report = diagnose(target, timeout, is_factory=factory)
    show(report, render, as_json=as_json)
    raise typer.Exit(report.exit_code)


@app.command()
def advise(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="The function you think of offloading; or a folder: list what is worth measuring there.",
        ),
    ],
    args: Annotated[
        str, typer.Option(help="Its arguments, as between the parentheses of a call; may use n, the size: \"'a' * n\".")
    ] = "",
    kwargs: Annotated[str, typer.Option(help="Its keyword arguments: \"sep=',', k=3\", or a JSON object.")] = "",
    sizes: Annotated[str, typer.Option(help="Sizes to try for n: 1e3,1e4,1e5. Default: 10 to 1e6.")] = "",
    repeat: Annotated[int | None, typer.Option(min=1, help="Calls of each kind. Default: what time allows.")] = None,
    budget: Annotated[float, typer.Option(min=0.5, help="Seconds for measuring.")] = 10.0,
    as_json: _JSON = False,
) -> None:
    """Measure a function inline and in a pool: does offloading pay, and from which size on?"""
    from lifepool.cli.advise.advisor import advise as find_advice
    from lifepool.cli.advise.arguments import Arguments, BadArguments, chosen_sizes
    from lifepool.cli.advise.render import render
    from lifepool.cli.output import show

    if (folder := _folder(target)) is not None:
        from lifepool.cli.advise import candidates

        with _settings_errors("advise"):
            show(candidates.candidates_of(folder), candidates.render, as_json=as_json)
        return
    _check_name(target, "MODULE:FUNCTION")
    arguments = Arguments(args, kwargs)
    try:
        chosen = chosen_sizes(arguments, sizes)
    except BadArguments as error:
        raise typer.BadParameter(str(error)) from None
    advice = find_advice(target, arguments, sizes=chosen, repeat=repeat, budget=budget)
    show(advice, render, as_json=as_json)
    raise typer.Exit(advice.exit_code)


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each measures every pool once.")] = 5,
    workers: Annotated[int | None, typer.Option(min=1, help="In each pool. Default: what lifepool would take.")] = None,
    pool: Annotated[list[str] | None, typer.Option(help="Only this one, beside lifepool; may be repeated.")] = None,
    loop: Annotated[str, typer.Option(help="asyncio or uvloop.")] = "asyncio",
    quick: Annotated[bool, typer.Option(help="One short round: shows that it works, figures mean little.")] = False,
    as_json: _JSON = False,
) -> None:
    """Measure lifepool beside the other process pools that are installed, on this machine."""
    from rich.console import Console

    from lifepool._host.cpus import cpu_budget
    from lifepool.cli.bench.comparison import bench as measure
    from lifepool.cli.bench.contenders import LIFEPOOL, POOLS
    from lifepool.cli.bench.render import render
    from lifepool.cli.output import show

    for name, known in [*((name, POOLS) for name in pool or ()), (loop, ("asyncio", "uvloop"))]:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}")
    with Console(stderr=True).status("starting") as status:
        report = measure(
            rounds=1 if quick else rounds,
            workers=workers or cpu_budget().workers,
            duration=0.1 if quick else 0.4,
            loop=loop,
            pools=[name for name in POOLS if name == LIFEPOOL or not pool or name in pool],
            announce=status.update,
        )
    show(report, render, as_json=as_json)


@app.command()
def worker(
    backend: Annotated[
        str, typer.Option(envvar="LIFEPOOL_BACKEND", help="The cluster's URL, as the app has it: celery+redis://...")
    ],
    max_workers: Annotated[int | None, typer.Option(min=1, help="Calls that run at the same time.")] = None,
    queue: Annotated[str | None, typer.Option(help="Calls of this queue. Default: the URL's.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="A module or MODULE:FUNCTION that may be called; may be repeated.")
    ] = None,
    preload: Annotated[list[str] | None, typer.Option(help="Import this module before calls come.")] = None,
    initializer: Annotated[str | None, typer.Option(help="MODULE:FUNCTION, called once in each worker.")] = None,
    max_tasks_per_worker: Annotated[int | None, typer.Option(min=1, help="Then a worker is replaced.")] = None,
    max_worker_memory: Annotated[str | None, typer.Option(help="Past it a worker is replaced: 512MiB.")] = None,
    drain_timeout: Annotated[float, typer.Option(min=0.0, help="Seconds for calls under way at the end.")] = 30.0,
) -> None:
    """Run calls of a cluster on this machine, until SIGTERM or Ctrl-C."""
    from lifepool.cli.worker import NodeOptions, run_worker

    given = NodeOptions(
        max_workers=max_workers,
        allow=tuple(allow or ()),
        preload=tuple(preload or ()),
        initializer=initializer,
        max_tasks_per_worker=max_tasks_per_worker,
        max_worker_memory=max_worker_memory,
        drain_timeout=drain_timeout,
    )
    raise typer.Exit(run_worker(backend, queue, given))


def _folder(target: str | None) -> Path | None:
    """Return the folder that is meant by a target, if it is one."""
    if target is None or ":" in target or not Path(target).is_dir():
        return None
    return Path(target)


@contextmanager
def _settings_errors(name: str) -> Iterator[None]:
    """Say on one line what is wrong with the settings in pyproject.toml."""
    from lifepool.cli.check.settings import WrongUsage

    try:
        yield
    except WrongUsage as error:
        typer.echo(f"lifepool {name}: {error}", err=True)
        raise typer.Exit(2) from None


def _check_name(name: str | None, shape: str) -> None:
    """Refuse what is not ``module:attribute``, before anything is done."""
    if name is None:
        return
    module, colon, attribute = name.partition(":")
    if module.endswith(".py") or "/" in module:
        raise typer.BadParameter(f"{name!r} names a file: write {shape}, as in main:app")
    if not colon:
        raise typer.BadParameter(f"{name!r} names no attribute: write {shape}, as in main:app")
    if not all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
        raise typer.BadParameter(f"{name!r} is not {shape}, as in main:app")


@app.command()
def top(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the live page is: http://localhost:8000/pool")],
    once: Annotated[bool, typer.Option("--once", help="Print one screen and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    header: Annotated[
        list[str] | None, typer.Option(help='Sent along; may be repeated: "Authorization: Bearer ..."')
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state once, as JSON.")] = False,
) -> None:
    """Watch the pool of a running server in the terminal; Ctrl-C ends it."""
    import json

    from rich.console import Console

    from lifepool.cli.top import screen as run
    from lifepool.cli.top.headers import parsed
    from lifepool.cli.top.source import NoPage, Source

    console = Console(highlight=False)
    try:
        source = Source(url, parsed(header or ()))
        if as_json:
            typer.echo(json.dumps(source.read(), indent=2, ensure_ascii=False))
        elif once or not console.is_terminal:
            run.once(source, console)
        else:
            run.watch(source, console, interval)
    except NoPage as error:
        typer.echo(f"lifepool top: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


# --- jobs -----------------------------------------------------------------------------------------------------------

jobs_app: typer.Typer = typer.Typer(
    help="Look into a store of jobs, cancel and retry; it needs no running server.", no_args_is_help=True
)
app.add_typer(jobs_app, name="jobs")

_STORE = Annotated[
    str | None,
    typer.Option("--store", envvar="LIFEPOOL_JOBS_STORE", help="sqlite:///jobs.db, postgresql+psycopg://host/database"),
]
_IDS = Annotated[list[str], typer.Argument(metavar="ID...", help="Of the jobs.")]


@jobs_app.command("list")
def list_jobs(
    store: _STORE = None,
    state: Annotated[list[str] | None, typer.Option(help="Only in this state; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Only of this name.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Where to go on, as the page before says.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 25,
    as_json: _JSON = False,
) -> None:
    """List jobs, the newest first."""
    from lifepool.cli.jobs import command

    with _job_errors("list"):
        command.list_jobs(store, states=state or (), name=name, tag=tag, cursor=cursor, limit=limit, as_json=as_json)


@jobs_app.command("show")
def show_job(job: Annotated[str, typer.Argument(metavar="ID")], store: _STORE = None, as_json: _JSON = False) -> None:
    """Show all that is known of a job: its result, or why there is none."""
    from lifepool.cli.jobs import command

    with _job_errors("show"):
        command.show_job(store, job, as_json=as_json)


@jobs_app.command("cancel")
def cancel_jobs(jobs: _IDS, store: _STORE = None, as_json: _JSON = False) -> None:
    """Cancel jobs: those that wait end at once, those that run are broken off. Ends with 1 if one is not there."""
    from lifepool.cli.jobs import command

    with _job_errors("cancel"):
        raise typer.Exit(0 if command.cancel(store, jobs, as_json=as_json) else 1)


@jobs_app.command("retry")
def retry_jobs(jobs: _IDS, store: _STORE = None, as_json: _JSON = False) -> None:
    """Queue jobs again that have failed, were lost or cancelled. Ends with 1 if one can't be."""
    from lifepool.cli.jobs import command

    with _job_errors("retry"):
        raise typer.Exit(0 if command.retry(store, jobs, as_json=as_json) else 1)


@contextmanager
def _job_errors(name: str) -> Iterator[None]:
    """Say on one line why a subcommand of jobs could not do its work: 2 if it was asked wrongly, else 1."""
    from lifepool.cli.jobs.session import NoStore, WrongUsage
    from lifepool.errors import PoolError

    try:
        yield
    except (WrongUsage, NoStore, PoolError) as error:
        typer.echo(f"lifepool jobs {name}: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, WrongUsage) else 1) from None
