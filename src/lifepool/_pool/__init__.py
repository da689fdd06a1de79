"""Hold what a Pool is made of: its life, task options, decorated functions, request scopes."""
