"""Hold what a Pool is made of: its runtime, decorated functions, the way in from threads, the thread of an executor."""
