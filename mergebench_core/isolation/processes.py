"""What a sandbox's processes are and use, as the host's /proc shows it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

STOP_TIMEOUT_S = 5.0
"""Far more than it takes, unless new processes come all the time, or the machine stands still itself."""
PAUSE_S = 0.002
STOPPED = "TtZX"
"""States of processes that do nothing: stopped, traced, ended."""
WAITING = "D"
"""Waits for a device; stops as soon as it goes on, once it was told to."""


def descendants(pid: int) -> list[int]:
    """Return all processes below `pid`, in no namespace's view but the host's."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = [*_children(waiting.pop())]
        found += children
        waiting += children
    return found


def stop_all(pid: int) -> bool:
    """Stop everything below `pid`, also what is being forked meanwhile; return whether all stands still."""
    told: set[int] = set()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        states = {found: _state(found) for found in descendants(pid)}
        running = [
            found
            for found, state in states.items()
            if state not in STOPPED and not (state == WAITING and found in told)
        ]
        if not running:
            return True
        send_all(running, signal.SIGSTOP)
        told.update(running)
        time.sleep(PAUSE_S)
    return False


def send_all(pids: list[int], number: int) -> None:
    """Send a signal to each; those that are gone are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Return whether a process runs or is stopped: not ended, not waiting to be reaped."""
    return _state(pid) not in "ZX"


def memory_bytes(pid: int) -> int:
    """Return a process's memory: its share of what is shared, or all that is resident where that is not told."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 1024 * _status_kilobytes(pid, "VmRSS")


def peak_rss_bytes(pid: int) -> int:
    """Return the most memory that a process had resident so far, 0 if it has gone."""
    return 1024 * _status_kilobytes(pid, "VmHWM")


def _status_kilobytes(pid: int, field: str) -> int:
    with contextlib.suppress(OSError):
        match = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
        return int(match.group(1)) if match else 0
    return 0


def _children(pid: int) -> Iterator[int]:
    threads: list[Path] = []
    with contextlib.suppress(OSError):  # it may end at any moment, and so may each of its threads
        threads = [*Path(f"/proc/{pid}/task").iterdir()]
    for thread in threads:
        with contextlib.suppress(OSError):
            yield from map(int, (thread / "children").read_text(encoding="ascii").split())


def _state(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        )
    except (OSError, IndexError):
        return "X"
