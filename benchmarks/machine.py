"""Where a run took place."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTIONS = (
    "pixir_actors", "thespian", "websocket-client", "orjson", "openai", "websockets", "openai-agents", "pydantic-ai-slim",
)  # fmt: skip


def describe() -> dict[str, str]:
    """Return what a reader needs to judge the numbers by."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "cores": f"{len(os.sched_getaffinity(0))} ({_first('/proc/cpuinfo', 'model name')})",
        "memory": f"{int(_first('/proc/meminfo', 'MemTotal').split()[0]) / 1e6:.1f} GB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load average at the start": load,
        "versions": ", ".join(_versions(DISTRIBUTIONS)),
    }


def command(program: str = "benchmarks") -> str:
    """Return the command that started this process, as one would type it."""
    return shlex.join(["python", "-m", program, *sys.argv[1:]])


def _first(path: str, name: str) -> str:
    lines = Path(path).read_text(errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")


def _versions(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
