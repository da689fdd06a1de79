"""Read facts about this machine: CPUs, control groups, memory, signals."""
