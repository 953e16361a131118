"""Control groups: hard limits on the memory and the processes of a whole sandbox.

Version 2 and version 1, where this user may make groups: as root, or below a group that was delegated.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mergebench_core.isolation.policy import Limits

ROOT = Path("/sys/fs/cgroup")
NAME = "mergebench"
WAIT_S = 2.0
POLL_S = 0.005


@dataclass(frozen=True, kw_only=True)
class Cgroup:
    """The group of one sandbox."""

    version: Literal[1, 2]
    folders: tuple[Path, ...]
    """Version 1: one per controller, memory first; version 2: one."""

    def limit(self, limits: Limits) -> None:
        """Set the limits.

        Raises:
            OSError: the kernel refuses one.
        """
        if limits.memory_bytes is not None:
            name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
            self._write(name, str(limits.memory_bytes))
            swap = {2: ("memory.swap.max", "0"), 1: ("memory.memsw.limit_in_bytes", str(limits.memory_bytes))}
            with contextlib.suppress(OSError):  # not there without swap accounting
                self._write(*swap[self.version])
            if self.version == 2:
                self._write("memory.oom.group", "1")
        self._write("pids.max", str(limits.processes))

    def processes(self) -> list[int]:
        """Return the processes inside."""
        with contextlib.suppress(OSError):
            return [int(word) for word in self._read("cgroup.procs").split()]
        return []

    def is_out_of_memory(self) -> bool:
        """Return whether the limit on memory was run into and a process was ended for it."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            name = "memory.events" if self.version == 2 else "memory.oom_control"
            words = self._read(name).split()
            return int(words[words.index("oom_kill") + 1]) > 0
        return False

    def remove(self) -> None:
        """Remove the group, once everything inside has ended."""
        deadline = time.monotonic() + WAIT_S
        while self.processes() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _file(self, name: str) -> Path:
        found = [folder / name for folder in self.folders if (folder / name).exists()]
        if not found:
            raise FileNotFoundError(name)
        return found[0]

    def _write(self, name: str, value: str) -> None:
        self._file(name).write_text(value, encoding="ascii")

    def _read(self, name: str) -> str:
        return self._file(name).read_text(encoding="ascii")


def create(limits: Limits, root: Path = ROOT) -> Cgroup | None:
    """Make a group with these limits, None where that is not possible."""
    name = f"{NAME}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    for make in (_create_v2, _create_v1):
        group = make(root, name)
        if group is None:
            continue
        try:
            group.limit(limits)
        except OSError:
            group.remove()
            continue
        return group
    return None


def _create_v2(root: Path, name: str) -> Cgroup | None:
    if not (root / "cgroup.controllers").is_file():
        return None
    for parent in dict.fromkeys([_own_group(root), root]):
        with contextlib.suppress(OSError):
            wanted = {"memory", "pids"}
            if not wanted <= set((parent / "cgroup.subtree_control").read_text(encoding="ascii").split()):
                (parent / "cgroup.subtree_control").write_text("+memory +pids", encoding="ascii")
            folder = parent / name
            folder.mkdir()
            return Cgroup(version=2, folders=(folder,))
    return None


def _own_group(root: Path) -> Path:
    """Return the group above this process's own: beside itself a delegated process may make others."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
            if line.startswith("0::"):
                return (root / line[3:].strip("/")).parent
    return root


def _create_v1(root: Path, name: str) -> Cgroup | None:
    folders: list[Path] = []
    try:
        for controller in ("memory", "pids"):
            if not (root / controller / "cgroup.procs").is_file():
                raise FileNotFoundError(controller)
            folder = root / controller / name
            folder.mkdir()
            folders.append(folder)
    except OSError:
        for folder in folders:
            folder.rmdir()
        return None
    return Cgroup(version=1, folders=tuple(folders))
