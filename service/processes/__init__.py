"""Runs the service's processes: its port, one worker or several under a parent, the simulator beside them."""
