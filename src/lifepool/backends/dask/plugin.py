"""The plugin that a client registers with Dask: it starts a node beside each worker.

Dask stores it as bytes, and a worker that can't load them does not start. So its class travels whole, and only where it
is set up lifepool is imported: a worker without lifepool says so, and goes on with what else Dask has for it.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    WorkerPlugin = object  # Dask has no types
else:
    from distributed.diagnostics.plugin import WorkerPlugin

#: What Dask knows the plugin by.
NAME = "lifepool"


class NodePlugin(WorkerPlugin):
    """Start a node when a worker has started, and end it with that."""

    name = "lifepool"

    def __init__(self) -> None:
        self._node: Any = None

    async def setup(self, worker: Any) -> None:
        """Start the node. What that fails with is logged by Dask, and told to the client that registers."""
        import importlib
        import logging

        try:
            # By name: programs of nodes are above the engines, and this class knows no module but Dask's.
            node = importlib.import_module("lifepool.nodes.dask_node")
        except ImportError as error:
            logging.getLogger("distributed.worker").error(
                "this worker runs no calls of lifepool, which can't be imported (%s): pip install 'lifepool[dask]'",
                error,
            )
            raise
        self._node = await node.start(worker)

    async def teardown(self, worker: Any) -> None:
        """End the node: calls that run may finish, as far as Dask leaves time for that."""
        if self._node is not None:
            await self._node.stop()


def packed() -> bytes:
    """Return the plugin as Dask stores it."""
    cloudpickle: Any = importlib.import_module("cloudpickle")  # Dask needs it, so it is there
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    try:
        data: bytes = cloudpickle.dumps(NodePlugin())
    finally:
        cloudpickle.unregister_pickle_by_value(here)
    return data
