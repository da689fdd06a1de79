"""The far side of ``isolation``: ``python -m lifepool.cli.isolated PARENT MODULE:FUNCTION REQUEST ANSWER``.

A process of its own separates what is measured or tried from the command: its imports, its threads, what it prints,
and that it may hang or die.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from lifepool.backends.local.worker.deathsignal import die_with_parent


def main(arguments: list[str]) -> None:
    """Call the function with the request, and write what it returns, all as JSON; ``ANSWER`` is an open descriptor."""
    parent, target, request, answer = arguments
    die_with_parent(int(parent))  # nobody would wait for the answer, or end what hangs
    module, _, name = target.partition(":")
    os.set_inheritable(int(answer), False)
    # As for `python script.py`: what lies in the current folder can be imported, also from an installed command.
    function = getattr(importlib.import_module(module), name)
    outcome = function(json.loads(request))
    with open(int(answer), "w", encoding="utf-8") as file:
        file.write(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1:])
