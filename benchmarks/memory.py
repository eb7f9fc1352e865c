"""Resident memory of another process, as Linux tells it."""

from __future__ import annotations

from pathlib import Path

NOW, PEAK = "VmRSS", "VmHWM"


def resident(pid: int, field: str) -> int | None:
    """Bytes of resident memory: now or the most so far; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def forget_peak(pid: int) -> bool:
    """Begin the peak again from what is resident now; says whether the system does so."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
