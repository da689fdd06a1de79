"""Run many items as few tasks, in bounded memory: map and gather."""
