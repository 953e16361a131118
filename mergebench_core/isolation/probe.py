"""The probe: tries, inside and before foreign code starts, what must not work there.

What it could not do decides the level that is recorded, not what is installed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

CLONE_NEWUSER = 0x10000000
TIMEOUT_S = 0.5
ALLOWED = "allowed"


def attempt_all(targets: dict[str, Any]) -> dict[str, str]:
    """Try everything; return `allowed` or `denied (<why>)` by attempt.

    `targets`: `folder` with a file `canary` and a socket `socket`, `tcp_port`, `udp_port`, `abstract` name, `pid`
    of a process of the host, `started` as /proc/<pid>/stat has it.
    """
    folder = targets["folder"]
    attempts: dict[str, Callable[[], object]] = {
        "read_file": lambda: _read(f"{folder}/canary"),
        "write_file": lambda: _write(f"{folder}/written"),
        "tcp": lambda: _connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", targets["tcp_port"])),
        "udp": lambda: _connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", targets["udp_port"])),
        "unix_path": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, f"{folder}/socket"),
        "unix_abstract": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{targets['abstract']}"),
        "see_process": lambda: _find(targets),
        "signal": lambda: _signal(targets),
        "read_memory": lambda: _read_memory(targets),
        "user_namespace": _unshare,
        "memfd": lambda: os.close(os.memfd_create("probe")),
    }
    return {name: _outcome(attempt) for name, attempt in attempts.items()}


def process_start(pid: int) -> str:
    """Return when a process started, as /proc has it; the same seen from every namespace."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123  # pathlib is slow to import
        return file.read().rpartition(")")[2].split()[19]


def _find(targets: dict[str, Any]) -> None:
    """Fail unless the host's process is there; in a namespace another one may bear its number."""
    try:
        found = process_start(targets["pid"])
    except PermissionError:
        return
    if found != targets["started"]:
        raise ProcessLookupError(errno.ESRCH, "another process")


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return f"denied ({errno.errorcode.get(error.errno or 0, type(error).__name__)})"
    return ALLOWED


def _read(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY))


def _write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _connect(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(address)
        connection.send(b"probe")


def _signal(targets: dict[str, Any]) -> None:
    _find(targets)
    os.kill(targets["pid"], 0)


def _read_memory(targets: dict[str, Any]) -> None:
    _find(targets)
    _read(f"/proc/{targets['pid']}/mem")


def _unshare() -> None:
    """In a fork: success would change this process."""
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        os._exit(ctypes.get_errno() if libc.unshare(CLONE_NEWUSER) else 0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(number, "unshare")
