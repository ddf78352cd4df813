"""What the figures were measured on, and whether it can measure at all."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path


def unfit() -> str | None:
    """Why this machine cannot run the benchmark; None when it can."""
    if shutil.which("wrk") is None:
        return "wrk is missing, the load generator: install it (Debian, Ubuntu: sudo apt-get install wrk)"
    if shutil.which("taskset") is None:
        return "taskset is missing: install util-linux"
    if not {0, 1} <= os.sched_getaffinity(0):
        return "two cores are needed, numbers 0 and 1: one for the server, one for the generator"
    return None


def describe() -> dict[str, str]:
    """Cores, processor, memory, kernel, Python."""
    memory_kb = _field(Path("/proc/meminfo"), "MemTotal").split()[0]
    return {
        "Processor": f"{_field(Path('/proc/cpuinfo'), 'model name')}, {os.cpu_count()} cores",
        "Memory": f"{int(memory_kb) / 1024 / 1024:.0f} GiB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }


def _field(path: Path, name: str) -> str:
    for line in path.read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0 unknown"
