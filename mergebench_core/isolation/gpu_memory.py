"""GPU memory of processes, as NVIDIA's driver tells it; never through torch, which would take some itself."""

from __future__ import annotations

import functools
import importlib
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergebench_core.isolation.watch import Watch

MIB = 1 << 20
NVML_PAUSE_S = 0.1
PROGRAM = "nvidia-smi"
QUERY = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
PROGRAM_PAUSE_S = 1.0
"""The program takes a good part of that for itself."""
TIMEOUT_S = 10.0
END_TIMEOUT_S = 1.0
NUM_READINGS = 3
FIRST_PIDS = 0xEFFFFFFC
"""Linux's number for the namespace of processes that a machine starts with."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What tells the GPU memory of processes."""

    read: Callable[[], dict[int, int] | None]
    pause_s: float
    """Between two readings."""


@functools.cache
def source() -> Source | None:
    """Return what this machine has; None where there is neither library nor program. Looked for once."""
    if (nvml := _nvml()) is not None:
        return Source(read=functools.partial(_read_nvml, nvml), pause_s=NVML_PAUSE_S)
    if (program := shutil.which(PROGRAM)) is not None:
        return Source(read=functools.partial(_read_program, program), pause_s=PROGRAM_PAUSE_S)
    return None


def used_by_pid() -> dict[int, int] | None:
    """Return the bytes that each process has on all GPUs together.

    None where that is unknown: nobody to ask, no answer, an amount that the driver does not tell (MIG, WSL), or a
    process that cannot be seen here (in a container the driver may number processes as the machine does).
    """
    given = source()
    return None if given is None else _confirmed(given.read)


def listed(text: str) -> dict[int, int] | None:
    """Return what the rows of the program say, in bytes; None if one of them says something else."""
    used: dict[int, int] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        pid, _, amount = map(str.strip, line.partition(","))
        if not (pid.isdecimal() and amount.isdecimal()):
            return None
        used[int(pid)] = used.get(int(pid), 0) + int(amount) * MIB
    return used


def has_first_pids() -> bool:
    """Return whether processes have the numbers here that the machine gave them: this is no container."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == FIRST_PIDS
    except OSError:
        return False


class GpuMeter:
    """The most GPU memory that some processes had together, unknown once a reading failed.

    It holds their CUDA contexts, about 0.5 GB each, and what allocators keep in reserve. It is sampled: what came
    and went between two readings is missed.
    """

    def __init__(self, processes: Callable[[], list[int]], given: Source | None) -> None:
        self._processes = processes
        self._source = given
        self._is_unknown = given is None
        self._peak_bytes: int | None = None
        self._sampling = threading.Lock()
        self._watch: Watch | None = None

    def start(self) -> None:
        """Take samples from now on, in a thread of its own: no limit of memory or time waits for a driver."""
        if self._source is not None:
            self._watch = Watch([self.sample], _ignore, pause_s=self._source.pause_s)

    def stop(self) -> None:
        """Take no more samples; a driver that hangs is not waited for."""
        if self._watch is not None:
            self._watch.stop(timeout_s=END_TIMEOUT_S)

    def sample(self) -> None:
        """Take one more sample."""
        with self._sampling:
            if self._is_unknown:
                return
            before = self._processes()
            used = used_by_pid()
            if used is None:
                self._is_unknown = True
                return
            now = sum(used.get(pid, 0) for pid in {*before, *self._processes()})
            self._peak_bytes = max(self._peak_bytes or 0, now)

    def peak_bytes(self) -> int | None:
        """Return the largest sample so far; 0 means measured and unused."""
        is_blind = self._peak_bytes == 0 and not has_first_pids()  # drivers leave out what runs in a container
        return None if self._is_unknown or is_blind else self._peak_bytes


def _ignore(overrun: str) -> None:
    """Nothing is overrun: a meter sets no limit."""


def _confirmed(read: Callable[[], dict[int, int] | None]) -> dict[int, int] | None:
    for _ in range(NUM_READINGS):  # a process that cannot be seen may just have ended
        used = read()
        if used is None or all(Path(f"/proc/{pid}").exists() for pid in used):
            return used
    return None


def _nvml() -> Any:
    """Return NVML, ready to be asked; None without the library or without a driver."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _read_nvml(nvml: Any) -> dict[int, int] | None:
    used: dict[int, int] = {}
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            for found in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if found.usedGpuMemory is None:
                    return None
                used[found.pid] = used.get(found.pid, 0) + found.usedGpuMemory
    except nvml.NVMLError:
        return None
    return used


def _read_program(program: str) -> dict[int, int] | None:
    try:
        answer = subprocess.run(
            [program, *QUERY], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return listed(answer.stdout.decode(errors="replace"))
