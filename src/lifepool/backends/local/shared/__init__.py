"""Share memory between server and workers: an arena for big payloads, cells for small calls."""
