"""Starting a worker process in a sandbox that shows it the models, its plugins, its folder, and nothing else."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mergebench_core.isolation import sandbox as sandboxes
from mergebench_core.isolation.policy import PACKAGE, Limits, Policy, model_paths, outermost
from mergebench_core.isolation.sandbox import Sandbox
from mergebench_core.kernels.library import VARIABLE, built_library
from mergebench_core.plugins import PluginSource
from mergebench_core.worker.channel import Channel
from mergebench_core.worker.window import Window, create_descriptor

KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
"""For glibc: buffers of chunks are allocated again and again; fresh pages would cost more than the arithmetic."""
PASSED_ON = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
READ_BYTES = 1 << 16
SIGNAL_BASE = 128
"""A shell, and bubblewrap, tell the signal that ended a command by this plus its number."""


@dataclass(frozen=True, kw_only=True)
class Visible:
    """What a worker is shown beside its own package and folder."""

    sources: Sequence[PluginSource] = ()
    models: Sequence[Path] = ()
    """Folders."""

    def policy(self, folder: Path, limits: Limits) -> Policy:
        """Return the policy of a worker that works in `folder`."""
        packages = [source.package_folder for source in self.sources]
        given = os.environ.get("LD_LIBRARY_PATH", "").split(":")
        libraries = [path for path in map(Path, filter(None, given)) if path.is_absolute() and path.is_dir()]
        kernels = [path for path in [built_library()] if path]
        models = [path for model in self.models for path in model_paths(model)]
        return Policy(
            readable=(*outermost([*sandboxes.core_paths(), *packages, *libraries, *kernels]), *models),
            listable=tuple(dict.fromkeys([PACKAGE.parent, *(path.parent for path in packages)])),
            writable=folder,
            has_devices=True,
            limits=limits,
        )


class Output:
    """What a worker prints: the first part of it goes to a file, the rest is read and thrown away."""

    def __init__(self, file: Path, limit_bytes: int) -> None:
        self.descriptor, self._write_end = os.pipe()
        file.touch()  # there to look at, also if nothing is printed
        self._file = file
        self._left = limit_bytes
        self._collecting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="mergebench-output", daemon=True)

    def start(self) -> int:
        """Begin to read; return the descriptor to print to, which the caller closes."""
        os.set_blocking(self.descriptor, False)
        self._thread.start()
        return self._write_end

    def collect(self) -> bool:
        """Take over what has been printed so far; return False once nothing can come any more."""
        with self._collecting:
            while True:
                try:
                    data = os.read(self.descriptor, READ_BYTES)
                except BlockingIOError:
                    return True
                except OSError:
                    return False
                if not data:
                    return False
                self._keep(data)

    def close(self) -> None:
        """Wait for the rest; everything that could print must have ended."""
        self._thread.join()
        os.close(self.descriptor)

    def _keep(self, data: bytes) -> None:
        kept = data[: self._left]
        if not kept:
            return
        self._left -= len(kept)
        with self._file.open("ab") as file:
            file.write(kept)
            if not self._left:
                file.write(b"\n[what was printed beyond this is not kept]\n")

    def _run(self) -> None:
        while select.select([self.descriptor], [], [])[0] and self.collect():
            continue


@dataclass(frozen=True, kw_only=True)
class WorkerProcess:
    """A running worker with the host's ends of its channel and window."""

    sandbox: Sandbox
    channel: Channel
    connection: socket.socket
    window: Window
    output: Output

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that the host started; the worker itself may be its child."""
        return self.sandbox.process

    def stop(self) -> None:
        """End the worker and everything it started; it has nothing to save."""
        self.connection.close()
        self.sandbox.stop()
        self.output.close()
        self.window.close()

    def ending(self) -> str:
        """Say how the worker ended, for a message."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its connection but still runs"
        number = -code if code < 0 else code - SIGNAL_BASE
        if number > 0:
            hint = " (out of memory?)" if number == signal.SIGKILL else ""
            return f"was ended by {_signal_name(number)}{hint}"
        return f"ended with exit code {code}"


def _signal_name(number: int) -> str:
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def start_worker(
    folder: Path,
    num_threads: int,
    log_file: Path,
    visible: Visible,
    limits: Limits,
    *,
    is_warm: bool = False,
    ceiling: int = 3,
) -> WorkerProcess:
    """Start a worker that may write into `folder`; what it prints goes to `log_file`.

    `is_warm`: it loads torch at once, which takes seconds, instead of when models are opened. `ceiling`: the
    highest level of isolation.

    Raises:
        IsolationError: no sandbox as strong as the user demands can be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    descriptor = create_descriptor()
    output = Output(log_file, limits.output_bytes)
    printed = output.start()
    command = [sys.executable, "-I", "-B", "-m", "mergebench_core.worker", str(theirs.fileno()), str(descriptor)]
    command += ["warm"] if is_warm else []
    try:
        sandbox = sandboxes.start(
            command,
            visible.policy(folder, limits),
            _environment(folder, num_threads),
            pass_fds=(theirs.fileno(), descriptor),
            stdout=printed,
            stderr=printed,
            ceiling=ceiling,
        )
    except BaseException:
        ours.close()
        os.close(descriptor)
        os.close(printed)
        output.close()
        raise
    finally:
        theirs.close()
    os.close(printed)
    window = Window(descriptor)
    os.close(descriptor)
    return WorkerProcess(sandbox=sandbox, channel=Channel(ours), connection=ours, window=window, output=output)


def _environment(folder: Path, num_threads: int) -> dict[str, str]:
    """Return an environment made from nothing but a few names that the system needs."""
    own = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PATH": "/usr/bin:/bin",
        "USER": "worker",
        "LOGNAME": "worker",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(num_threads),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHINDUCTOR_CACHE_DIR": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        **KEEP_FREED_MEMORY,
        VARIABLE: str(built_library() or 0),
    }
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | own
