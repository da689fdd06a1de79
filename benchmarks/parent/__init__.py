"""Where the microseconds of a task go in the server process: ``python -m benchmarks.parent``."""
