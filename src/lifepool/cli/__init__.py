"""The subcommands of ``lifepool``, one file or folder each: plain logic that returns data, separate from rendering."""
