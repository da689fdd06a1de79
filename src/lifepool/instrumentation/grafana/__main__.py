"""Copy the dashboard and the alert rules: ``python -m lifepool.instrumentation.grafana FOLDER``."""

from __future__ import annotations

import sys

from lifepool.instrumentation.grafana import write_to


def main(arguments: list[str]) -> int:
    """Copy the files, and print where they are."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m lifepool.instrumentation.grafana FOLDER", file=sys.stderr)  # noqa: T201
        return 2
    for path in write_to(arguments[0]):
        print(path)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
