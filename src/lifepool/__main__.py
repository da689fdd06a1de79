"""The way in of ``lifepool`` and ``python -m lifepool``: it works without the extra too, and says what is missing."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: Always, with the command's exit code; 2 if the packages that it needs are not installed.
    """
    try:
        from lifepool.cli.subcommands import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write(f"the lifepool command needs {error.name}: pip install 'lifepool[cli]'\n")
        raise SystemExit(2) from None
    app(prog_name="lifepool")


if __name__ == "__main__":
    main()
