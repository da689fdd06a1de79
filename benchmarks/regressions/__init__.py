"""Did anything get slower? lifepool as it is and an earlier commit of it, measured in turn (``make bench-check``)."""
