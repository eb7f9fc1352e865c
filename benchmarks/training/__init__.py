"""Times steps of training beside the usual way to write them; the one folder of the benchmarks with torch."""
