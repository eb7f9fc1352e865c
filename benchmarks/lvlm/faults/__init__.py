"""The fault matrix: tries every fault of the simulator, for every strategy, wire format and mode."""
