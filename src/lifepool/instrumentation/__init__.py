"""Hooks that watch a pool, one file for each exporter: ``pool.add_hook(...)``."""
