"""Running hostile code in a sandbox, and evidence from the host's side of what it did."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mergebench_core.isolation import sandbox as sandboxes
from mergebench_core.isolation.policy import PYTHON_FOLDERS, Limits, Policy, outermost
from mergebench_core.isolation.sandbox import Sandbox
from mergebench_core.isolation.watch import WorkClock

MIB = 1 << 20
PYTHON = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
PRELUDE = """
import ctypes, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def say(word):
    with open("said", "a") as file:
        file.write(word + "\\n")
def attempt(act):
    try:
        say(f"done {act()}")
    except BaseException as error:
        say(f"failed {type(error).__name__}")
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What came of an attack."""

    sandbox: Sandbox
    said: str
    """What the attacker wrote into its folder: evidence where it holds a secret."""
    seconds: float


class Attacker:
    """Starts hostile code at one level, with limits small enough to be run into quickly."""

    def __init__(self, level: int, folder: Path) -> None:
        self.level = level
        self.outside = folder / "outside"
        """A folder of the host's, open to everybody on this machine: only the sandbox holds back."""
        self.outside.mkdir(mode=0o777)
        for path in (self.outside, *self.outside.parents):
            if path.owner() and os.access(path, os.W_OK) and path.is_relative_to(tempfile.gettempdir()):
                with contextlib.suppress(PermissionError):
                    path.chmod(path.stat().st_mode | 0o055)
        self.outside.chmod(0o777)
        self.work = Path(tempfile.mkdtemp(prefix="mergebench-attack-"))
        self._sandboxes: list[Sandbox] = []

    def __enter__(self) -> Attacker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sandbox in self._sandboxes:
            sandbox.stop()
        subprocess.run(["rm", "-rf", str(self.work)], check=True)

    def start(self, code: str, *, time_s: float = 20.0, **limits: object) -> Sandbox:
        """Start an attack."""
        settings: dict = {"memory_bytes": 256 * MIB, "processes": 40, "files": 500, "disk_bytes": 64 * MIB}
        policy = Policy(
            readable=outermost(PYTHON_FOLDERS), writable=self.work, listable=(), limits=Limits(**settings | limits)
        )
        program = PRELUDE + textwrap.dedent(code)
        sandbox = sandboxes.start([PYTHON, "-I", "-S", "-c", program], policy, {}, ceiling=self.level)
        self._sandboxes.append(sandbox)
        assert sandbox.isolation.level == self.level
        clock = WorkClock(time_s)
        clock.start()
        sandbox.watch(clock)
        return sandbox

    def run(self, code: str, **limits: object) -> Ended:
        """Run an attack to its end, or to the end that the host makes of it."""
        started = time.monotonic()
        sandbox = self.start(code, **limits)
        with contextlib.suppress(subprocess.TimeoutExpired):
            sandbox.process.wait(timeout=60)
        sandbox.stop()
        said = self.work / "said"
        return Ended(
            sandbox=sandbox,
            said=said.read_text() if said.is_file() else "",
            seconds=time.monotonic() - started,
        )


class Listener:
    """A socket of the host's that counts who comes."""

    def __init__(self, family: int, kind: int, address: object) -> None:
        self.socket = socket.socket(family, kind)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self._is_stream = kind == socket.SOCK_STREAM
        if self._is_stream:
            self.socket.listen()

    def has_visitor(self) -> bool:
        """Return whether anything arrived."""
        try:
            if self._is_stream:
                self.socket.accept()[0].close()
            else:
                self.socket.recv(100)
        except BlockingIOError:
            return False
        return True


def processes_named(name: str) -> list[int]:
    """Return the processes of this machine with that name (at most 15 characters)."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and (folder / "comm").read_text().strip() == name:
                found.append(int(folder.name))
    return found
