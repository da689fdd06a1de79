"""The live page of a pool: ``app.mount("/pool", dashboard(pool))``.

What it shows is collected by a hook (``recorder``) into tables of bounded size (``time_series``, ``by_function``,
``failures``, ``task_details``), put together as one JSON document (``document``), and served with the page's own files
by a plain ASGI app (``app``). Nothing is fetched from elsewhere, and no answer is endless: an open page never keeps a
server from ending.
"""

from __future__ import annotations

from lifepool.dashboard.access import Access
from lifepool.dashboard.app import dashboard

__all__ = ["Access", "dashboard"]
