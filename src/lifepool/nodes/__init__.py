"""What runs on the nodes of a cluster: programs around a local pool, one an engine."""
