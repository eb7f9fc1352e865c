"""The fault matrix: every fault of the simulator, for every strategy, wire format and mode."""
