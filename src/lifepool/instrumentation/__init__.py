"""What watches a pool, one file an exporter. Each is a hook: ``pool.add_hook(...)``."""
