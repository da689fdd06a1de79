"""Run tasks on other machines: what all engines share. Each engine adds a transport, and its own way to start nodes.

The web process has a ``RemoteBackend``; each node has a ``NodeAgent`` around a local pool. Between them go signed
messages, which a ``Transport`` carries. ``loopback`` is a transport within one process.
"""
