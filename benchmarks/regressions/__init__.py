"""Did anything get slower? lifepool against the standard pool, now and in stored runs (``make bench-check``)."""
