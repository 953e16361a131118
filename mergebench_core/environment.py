"""Where a run takes place: hardware class, versions, commit. Part of every record."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mergebench_core.records import EnvironmentPart, IsolationPart

PACKAGES = (
    "mergebench",
    "torch",
    "transformers",
    "lm-eval",
    "numpy",
    "safetensors",
    "tokenizers",
    "duckdb",
    "mergekit",
    "vllm",
)


def environment(num_threads: int, isolation: IsolationPart | None) -> EnvironmentPart:
    """Describe this machine and installation."""
    commit, is_dirty = _commit()
    return EnvironmentPart(
        hardware_class=hardware_class(),
        platform=platform.platform(),
        python=platform.python_version(),
        num_threads=num_threads,
        packages=package_versions(),
        commit=commit,
        is_dirty=is_dirty,
        isolation_level=isolation.level if isolation else 0,
        isolation=isolation,
    )


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the installed versions of packages (those that can move results); what is missing is left out."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def hardware_class() -> str:
    """Return CPU model, number of usable cores, and GPU if torch sees one: times compare only within one class."""
    parts = [f"{cpu_model()}, {num_cores()} cores"]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name(0))
    return ", ".join(parts)


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def _commit() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that this package runs from, and whether it was changed since."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return None, None
    command = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*command, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit.stdout.strip(), bool(status.stdout.strip())
