"""A driver that is none: an `nvidia-smi` that lists true processes with made-up amounts, and a method to list."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from mergebench_core.isolation import gpu_memory, sandbox

MIB = 1 << 20
PEAK_BYTES = (700 + 50 + 11) * MIB
"""On two devices, and of a child process."""
LISTING = """
import os, signal, sys
from pathlib import Path
def children(pid):
    found = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    for thread in threads:
        try:
            found += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return sorted(found, key=started)
def started(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0
def tree(pid):
    return [pid, *(below for child in children(pid) for below in tree(child))]
def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
assert sys.argv[1:] == ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
host = os.getppid()
trees = [[pid for pid in tree(child) if "mergebench_core.worker" in command(pid)] for child in children(host)]
workers = next(filter(None, reversed(trees)), [])
asked = Path(__file__).with_name("asked")
print(f"{host}, 9000")
print("1, 8000")
if len(workers) == 2:
    number = len(asked.read_text()) if asked.exists() else 0
    asked.write_text("x" * (number + 1))
    print(f"{workers[0]}, {[100, 700, 300][min(number, 2)]}")
    print(f"{workers[1]}, 11")
    print(f"{workers[0]}, 50")
    if number > 1:
        os.kill(workers[1], signal.SIGKILL)
elif workers:
    print(f"{workers[0]}, 40")
"""
"""For the runner, the first process, and the newest worker: amounts that rise and fall while it has a child, which
is ended after the third. Newest by the time of its start: the numbers of processes begin anew at some time."""
SLEEPING = """
import os, time
import torch
from mergebench_core import MergingMethod, MethodInfo, Prepared, hookimpl

class Sleeping(MergingMethod):
    info = MethodInfo(name="sleeping", title="Sleeping", paper_url="")

    def prepare(self, context, config):
        child = os.fork()
        if not child:
            time.sleep(SECONDS)
            os._exit(0)
        os.waitpid(child, 0)
        return Prepared()

    def update(self, tensor, config, prepared):
        return torch.zeros_like(tensor.base)

@hookimpl
def mergebench_register_methods(register):
    register(Sleeping())
"""


def sleeping(seconds: float) -> str:
    """Return the source of a method that waits for its child, which sleeps so long unless somebody ends it."""
    return SLEEPING.replace("SECONDS", str(seconds))


class MadeUpDriver:
    """Puts an `nvidia-smi` first on the path of this process, and a device for workers to be given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._program = folder / "driver" / "nvidia-smi"
        self._program.parent.mkdir()
        monkeypatch.setenv("PATH", f"{self._program.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setitem(sys.modules, "pynvml", None)
        monkeypatch.setattr(sandbox, "devices", lambda: ("/dev/null",))
        monkeypatch.setattr(gpu_memory, "PROGRAM_PAUSE_S", 0.1)
        gpu_memory.source.cache_clear()

    def says(self, code: str, shebang: str = f"{sys.executable} -IS") -> None:
        """Let the program run this code."""
        new = self._program.with_name("new")  # a program that runs cannot be written to
        new.write_text(f"#!{shebang}\n{code}")
        new.chmod(new.stat().st_mode | stat.S_IXUSR)
        new.replace(self._program)
