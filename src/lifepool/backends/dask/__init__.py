"""Carry calls over Dask's connections: from a client straight to the node beside each Dask worker, and back."""
