"""Check the settings of a pool, one value at a time."""
