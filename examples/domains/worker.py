"""What a worker of the service does before its first text."""

import os

from examples.domains.extract import warm_up

#: By so much workers are nicer than the server: with all CPUs busy, it is the server that answers `/health`, refuses
#: what is too much, and hands the workers their next texts.
NICENESS = 10


def begin() -> None:
    """Let the server go first, and make the first text as quick as the others."""
    os.nice(NICENESS)
    warm_up()
