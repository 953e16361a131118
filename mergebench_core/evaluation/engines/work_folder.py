"""A folder for what engines need while a process lives; the next process removes what a killed one left.

In the home:

    work/<machine>@<name>/lock                  held while the process lives
                          vllm-<name>/vllm.log  where vLLM's own process writes

Only folders of this machine are removed: on some shared disks a lock holds on one machine alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ENGINE_LOG = "vllm.log"
"""What an engine's own process writes to, from its start to its end: by this it is known."""
MAX_WAIT_S = 20.0
"""For an engine's process that was killed to be gone."""


class WorkFolder:
    """A new folder, its own until `close`. Making one removes those whose process was killed, engines included."""

    def __init__(self, root: Path) -> None:
        """Make a folder below `root`."""
        root.mkdir(parents=True, exist_ok=True)
        with root.with_name(f"{root.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # else a folder that is not yet held would be taken for one left
            _clear(root)
            self.path = Path(tempfile.mkdtemp(dir=root, prefix=_prefix()))
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _clear(root: Path) -> None:
    """Remove this machine's folders that nobody holds, and end the engines that wrote to them."""
    own = [folder for folder in root.glob(f"{_prefix()}*") if folder.is_dir()]
    held = {folder.name for folder in own if _is_held(folder)}
    _end_engines(root, held)
    for folder in own:
        if folder.name not in held:
            shutil.rmtree(folder, ignore_errors=True)


def _prefix() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", platform.node()) + "@"


def _is_held(folder: Path) -> bool:
    try:
        with (folder / "lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # in use, or another user's
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    return False


def _end_engines(root: Path, held: set[str]) -> None:
    """End the processes of engines below `root`: a killed process cannot end its engine, which keeps the GPU."""
    engines = [pid for pid, name in _engines(root) if name.startswith(_prefix()) and name not in held]
    for pid in engines:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + MAX_WAIT_S
    while any(map(_is_running, engines)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _engines(root: Path) -> Iterator[tuple[int, str]]:
    """Yield each process whose output is an engine's log, with the name of the log's work folder."""
    for process in Path("/proc").glob("[0-9]*"):
        for stream in ("1", "2"):
            with contextlib.suppress(OSError, ValueError):  # it has ended, is another user's, or writes elsewhere
                file = (process / "fd" / stream).readlink().relative_to(root.resolve())
                if len(file.parts) == 3 and file.name.removesuffix(" (deleted)") == ENGINE_LOG:
                    yield int(process.name), file.parts[0]
                    break


def _is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
