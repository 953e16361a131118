"""Starting a worker process. Level 0 of isolation: a bare process with an empty environment."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mergebench_core.kernels.library import VARIABLE, built_library
from mergebench_core.worker.channel import Channel
from mergebench_core.worker.window import Window, create_descriptor

ISOLATION_LEVEL = 0
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
"""For glibc: buffers of chunks are allocated again and again; fresh pages would cost more than the arithmetic."""
PASSED_ON = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "PATH")


@dataclass(frozen=True, kw_only=True)
class WorkerProcess:
    """A running worker with the host's ends of its channel and window."""

    process: subprocess.Popen[bytes]
    channel: Channel
    connection: socket.socket
    window: Window

    def peak_rss_bytes(self) -> int | None:
        """Return the peak resident memory so far, None where the system does not tell."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return None
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(match.group(1)) * 1024 if match else None

    def stop(self) -> None:
        """End the worker and everything in its process group; it has nothing to save."""
        self.connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.window.close()

    def ending(self) -> str:
        """Say how the worker ended, for a message."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its connection but still runs"
        if code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"was ended by {_signal_name(-code)}{hint}"
        return f"ended with exit code {code}"


def _signal_name(number: int) -> str:
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def start_worker(folder: Path, num_threads: int, log_file: Path, *, is_warm: bool = False) -> WorkerProcess:
    """Start a worker that may write into `folder`; what it prints goes to `log_file`.

    `is_warm`: it loads torch at once, which takes seconds, instead of when models are opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    descriptor = create_descriptor()
    command = [sys.executable, "-I", "-B", "-m", "mergebench_core.worker", str(theirs.fileno()), str(descriptor)]
    command += ["warm"] if is_warm else []
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=_environment(folder, num_threads),
            pass_fds=(theirs.fileno(), descriptor),
            start_new_session=True,  # Ctrl-C is the host's business
        )
    theirs.close()
    window = Window(descriptor)
    os.close(descriptor)
    return WorkerProcess(process=process, channel=Channel(ours), connection=ours, window=window)


def _environment(folder: Path, num_threads: int) -> dict[str, str]:
    """Return an environment made from nothing but a few names that the system needs."""
    own = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "USER": "worker",
        "LOGNAME": "worker",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(num_threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
        **KEEP_FREED_MEMORY,
        VARIABLE: str(built_library() or 0),
    }
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | own
