# The service alone: no torch, no compiler, no root. The simulator runs from the same image.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

# Hosted models are reached over TLS; the slim image has the certificates only by way of other packages.
RUN test -s /etc/ssl/certs/ca-certificates.crt \
    || (apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*)

WORKDIR /app

# The dependencies are a layer of their own, rebuilt when these files change and not with every line of code:
# what is installed here is the project's metadata without a package in it.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -m pip install --constraint constraints.txt . \
    && find /usr/local/lib -type d \( -path '*/numpy/*/tests' -o -path '*/onnxruntime/transformers' \) -prune -exec rm -rf {} +

# Of models/ the service needs the seam and nothing else.
COPY models/__init__.py models/
COPY models/contracts models/contracts
COPY service service
RUN python -m compileall -q models service

# A volume on /data is made with this owner and mode.
RUN useradd --no-log-init --no-create-home --uid 10001 msr \
    && install --directory --mode 0700 --owner msr --group msr /data
USER 10001

# ONNX Runtime would otherwise report its use to its vendor.
ENV MSR_HOST=0.0.0.0 \
    MSR_PORT=8000 \
    MSR_DATA=/data \
    MSR_LOG_FORMAT=json \
    ORT_DISABLE_TELEMETRY=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ['MSR_PORT']}/health/ready\", timeout=4)"]

CMD ["python", "-m", "service"]
