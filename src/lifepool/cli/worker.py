"""``lifepool worker``: a node of a cluster."""

from __future__ import annotations

import sys
from dataclasses import replace

from lifepool.backends.remote.urls import parse, signer_for
from lifepool.errors import PoolError
from lifepool.nodes.node_thread import NodeSettings as NodeOptions

__all__ = ["NodeOptions", "run_worker"]


def run_worker(backend: str, queue: str | None, options: NodeOptions) -> int:
    """Run a node until it is told to end; return its exit code, 2 for a mistake in what was given."""
    try:
        url = parse(backend)
        if queue is not None:
            url = replace(url, queue=queue)
        if url.engine.program is not None:
            raise ValueError(f"nodes at {url.where} are not started by this command, but by `{url.engine.program}`")
        signer = signer_for(url)
    except (PoolError, ValueError) as error:
        sys.stderr.write(f"lifepool worker: {error}\n")
        return 2
    sys.path.insert(0, "")  # as `python -m` has it: the code of the calls may be in the folder that this is started in
    from lifepool.nodes.celery_worker import run

    return run(url, signer, options)
