"""Load shedding: refuse requests that could not be answered in time, before their bodies are read.

``app.add_middleware(LoadShedding, pool=pool)``, or ``app = LoadShedding(app, pool=pool)`` for any ASGI app.
"""

from lifepool.integrations.shedding.middleware import EXEMPT, LoadShedding

__all__ = ["EXEMPT", "LoadShedding"]
