"""Settings of hypothesis for slow machines."""

from __future__ import annotations

from hypothesis import settings

# Other processes may hold the CPU for longer than hypothesis' deadline of 200 ms.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
