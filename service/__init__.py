"""MSR Serve: a bundle in, recommendations out."""

import os

__version__ = "0.1.0"

# ONNX Runtime reports to its vendor unless told not to, and reads this when it is imported. Nothing leaves
# the machine but calls to the configured LVLM providers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
