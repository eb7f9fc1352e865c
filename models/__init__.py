"""Makes bundles: reads data, trains sequential recommenders, exports them."""

import os

# ONNX Runtime reports to its vendor unless told not to, and reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
