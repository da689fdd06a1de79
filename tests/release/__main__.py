"""Install built files in an empty folder, and do there what README.md says, word for word; no checkout is in sight.

usage: python -m tests.release dist/lifepool-0.1.0-py3-none-any.whl dist/lifepool-0.1.0.tar.gz
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.release.reader import Reader


def main(artifacts: list[Path]) -> None:
    """Follow the page once for each file, and print what was done."""
    for artifact in artifacts:
        with tempfile.TemporaryDirectory(prefix="reader-") as folder:
            reader = Reader(Path(folder), artifact.resolve())
            print(f"{artifact.name}: an environment of its own", flush=True)
            for done in reader.follow():
                print(f"  {done}", flush=True)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
