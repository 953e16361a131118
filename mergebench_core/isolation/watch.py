"""Watching a sandbox from outside: its folder, memory where no group limits it, whatever else the host counts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mergebench_core.isolation.policy import Limits

POLL_S = 0.1
SCAN_SHARE = 0.05
"""At most this share of the time goes into looking through the folder."""

Check = Callable[[], str | None]
"""Returns what was overrun, None while all is well."""


class Watch:
    """A thread that looks every `pause_s`, and ends the sandbox on the first overrun."""

    def __init__(self, checks: Sequence[Check], end: Callable[[str], None], *, pause_s: float = POLL_S) -> None:
        self._checks = checks
        self._end = end
        self._pause_s = pause_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mergebench-watch", daemon=True)
        self._thread.start()

    def stop(self, *, timeout_s: float | None = None) -> None:
        """Look no more; wait for the look that is being taken, at most `timeout_s`."""
        self._is_over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._is_over.wait(self._pause_s):
            for check in self._checks:
                if overrun := check():
                    self._end(overrun)
                    return


class WorkClock:
    """Seconds that the other side was asked to work, by this side's clock; a check against a limit on them."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._before_s = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Count from now on."""
        self._started = time.monotonic()

    def stop(self) -> None:
        """Count no longer."""
        elapsed_s = self.elapsed_s()
        self._started = None  # first, or the watching thread could count this stretch twice
        self._before_s = elapsed_s

    def elapsed_s(self) -> float:
        """Return what was counted so far."""
        started = self._started
        return self._before_s + (time.monotonic() - started if started is not None else 0.0)

    def __call__(self) -> str | None:
        is_over = self.elapsed_s() > self._limit_s
        return f"more than {self._limit_s:.0f} s of time" if is_over else None


class FolderCheck:
    """Counts files and bytes in a folder; stops counting at the limit, however much there is."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._next = 0.0

    def __call__(self) -> str | None:
        if time.monotonic() < self._next:
            return None
        started = time.monotonic()
        found = self._look()
        ended = time.monotonic()
        self._next = ended + (ended - started) / SCAN_SHARE
        return found

    def _look(self) -> str | None:
        num_files = num_bytes = 0
        waiting = [self._folder]
        while waiting:
            try:
                entries = os.scandir(waiting.pop())
            except OSError:
                continue
            with entries:
                for entry in entries:
                    num_files += 1
                    if num_files > self._limits.files:
                        return f"more than {self._limits.files} files"
                    try:
                        num_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(Path(entry.path))
                    except OSError:
                        continue
        if self._limits.disk_bytes is not None and num_bytes > self._limits.disk_bytes:
            return f"more than {self._limits.disk_bytes} bytes of disk"
        return None
