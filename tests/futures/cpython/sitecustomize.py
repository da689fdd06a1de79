"""Swap the executor in every Python process that has this folder in its search path."""

import concurrent.futures

import lifepool.futures

concurrent.futures.ProcessPoolExecutor = lifepool.futures.ProcessPoolExecutor  # type: ignore[misc]
