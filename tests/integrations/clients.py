"""FastAPI's test client, the way its users know it."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # Starlette would rather have httpx2, which is not what FastAPI users have today.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

__all__ = ["TestClient"]
