"""What the subcommands of ``lifepool`` do, one file or folder each: plain logic that returns data, rendering apart."""
