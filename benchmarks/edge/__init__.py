"""The benchmarks of the service's edge: clients that mean ill, processes that end."""
