"""MSR Serve: serves the recommendations of a bundle of trained models over HTTP."""

import os

__version__ = "0.1.0"

# ONNX Runtime sends telemetry to its vendor unless this is set before it is imported. The service talks to no
# other machine than the configured LVLM providers, Redis and its clients.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
