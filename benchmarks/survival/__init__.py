"""Who survives what: the same faults against every pool, each one really happening, in a process of its own."""
