"""Carry calls by Ray: to one actor on each node, from a process of its own that is Ray's driver.

The app never imports Ray. Its driver blocks for long, writes to the terminal, installs signal handlers, and ends its
whole process when the cluster has been away for a minute: so it has a process that may end, and that is started anew.
"""
