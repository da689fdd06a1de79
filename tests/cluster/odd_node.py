"""Imported on a node: it is odd from then on, as the environment says.

``WRONG_BY``: seconds by which its clock is ahead. ``WRONG_VERSION``: of lifepool. ``WRONG_CLIENT_S``: seconds of
silence after which a client on Celery is gone; it may be imported in that, too.
"""

from __future__ import annotations

import os
import time

import lifepool
from lifepool.backends.celery import transport

_real, _wrong_by = time.time, float(os.environ.get("WRONG_BY", "0"))


def _wrong() -> float:
    return _real() + _wrong_by


time.time = _wrong
if "WRONG_CLIENT_S" in os.environ:
    transport.CLIENT_S = int(os.environ["WRONG_CLIENT_S"])
if "WRONG_VERSION" in os.environ:
    lifepool.__version__ = os.environ["WRONG_VERSION"]
