"""The ``lifepool`` command: one function a subcommand, which says what it takes and leaves the work to its module.

What a subcommand does is in ``lifepool.commands``, one file or folder each. It is imported inside the function, so
that ``lifepool --help`` and every other subcommand stay quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

import lifepool

app = typer.Typer(
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
