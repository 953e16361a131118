"""What a process may see and use: paths, memory, processes, disk, time."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import mergebench_core

GIB = 1 << 30
PACKAGE = Path(mergebench_core.__file__).parent
PYTHON = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
"""The interpreter itself: what a virtual environment's leads to."""
PYTHON_FOLDERS = (Path(sys.base_prefix), PYTHON.parent.parent)
HIDDEN = (PACKAGE / "tracks",)
"""Test items, their generators and recipes: no worker sees them."""
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives")
SYSTEM_FILES = (
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu", "/sys/devices/system/node", "/dev/urandom", "/dev/random", "/dev/zero",
)  # fmt: skip
DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", "/dev/nvidia-caps")
DRIVER_FILES = ("/sys", "/proc/driver/nvidia", "/proc/devices", "/proc/modules")
"""What CUDA reads before it finds a device."""
MIN_PROCESSES, PROCESSES_PER_CORE = 512, 8


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a sandboxed process and all it starts may use together. None: no limit."""

    memory_bytes: int | None = None
    processes: int = MIN_PROCESSES
    """Threads count."""
    disk_bytes: int | None = None
    """In its folder."""
    files: int = 10_000
    """In its folder."""
    output_bytes: int = 1 << 20
    """Kept of what it prints; the rest is thrown away."""
    rlimits: dict[str, int] = field(default_factory=dict)
    """Further limits of every single process, by name without `RLIMIT_`."""


@dataclass(frozen=True, kw_only=True)
class MethodLimits:
    """What a method may use, as a user sets it."""

    memory_bytes: int | None = None
    """None: three quarters of the machine's."""
    time_s: float = 24 * 3600.0
    """The host's clock, while the worker is asked to work: preparing and merging, all configurations together."""

    def on(self, folder: Path) -> Limits:
        """Return the limits of a worker that writes into `folder`; it may fill half of what is free there."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        free = shutil.disk_usage(folder).free
        return Limits(
            memory_bytes=self.memory_bytes or memory * 3 // 4,
            processes=max(MIN_PROCESSES, PROCESSES_PER_CORE * (os.cpu_count() or 1)),
            disk_bytes=free // 2,
        )


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What one process may see."""

    readable: tuple[Path, ...]
    """Files and folders, beside the system's own."""
    writable: Path
    """Its one folder."""
    listable: tuple[Path, ...] = (PACKAGE.parent,)
    """Folders whose names may be read: where Python looks for packages that lie in readable folders of theirs."""
    hidden: tuple[Path, ...] = HIDDEN
    """Folders within readable ones that it may not see, unless they are readable by name."""
    has_devices: bool = False
    """Whether GPUs are passed through."""
    limits: Limits = field(default_factory=Limits)

    def rules(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what may be read, and the folders of which only names may be: hidden ones are cut out."""
        readable: dict[str, None] = {}
        listable = dict.fromkeys(map(str, self.listable))
        for path in self.readable:
            _cut(path, [hidden for hidden in self.hidden if hidden != path], readable, listable)
        return tuple(readable), tuple(listable)


def _cut(path: Path, hidden: Iterable[Path], readable: dict[str, None], listable: dict[str, None]) -> None:
    inside = [found for found in hidden if found.is_relative_to(path)]
    if not inside:
        readable[str(path)] = None
        return
    listable[str(path)] = None
    for child in path.iterdir():
        if child not in inside:
            _cut(child, inside, readable, listable)


def interpreter_paths() -> tuple[Path, ...]:
    """Return where this Python and its installed packages lie, resolved and as named."""
    names = [sys.prefix, sys.exec_prefix]
    names += [sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")]
    return outermost([*PYTHON_FOLDERS, *map(Path, names)])


def outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the paths, as named and resolved, without what lies in another of them or is the system's."""
    found = dict.fromkeys(Path(os.path.normpath(form)) for path in paths for form in (path, path.resolve()))
    system = [Path(name) for name in SYSTEM]
    return tuple(
        path
        for path in found
        if not any(path.is_relative_to(other) for other in (*found, *system) if other != path)
        and path not in system
    )


def model_paths(folder: Path) -> tuple[Path, ...]:
    """Return a model's folder and what its links lead to: caches of models are full of links."""
    links = {path.resolve() for path in folder.iterdir() if path.is_symlink()}
    return (folder, *sorted(path for path in links if path.is_file()))


def devices() -> tuple[str, ...]:
    """Return the files of the machine's NVIDIA GPUs."""
    numbered = [str(path) for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return tuple(name for name in (*numbered, *DEVICES) if Path(name).exists())
