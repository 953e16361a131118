"""What a process does to itself before foreign code starts: own user, limits, Landlock, seccomp; then the probe.

Runs as `python -I -S -B -c BOOTSTRAP FOLDER ORDERS_FD`, inside the namespaces if there are any, on the standard
library alone. Everything set here outlives the `execv` into the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from mergebench_core.isolation import landlock, orphans, probe, seccomp

BOOTSTRAP = (
    "import sys, types; package = types.ModuleType('mergebench_core'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['mergebench_core'] = package; from mergebench_core.{module} import main; main()"
)
"""Runs a module's `main` without the package around it, which needs libraries. First argument: its folder."""
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT = 1, 8, 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION, CAP_DAC_READ_SEARCH = 0x20080522, 2
START_FAILED = 119
"""Exit code of a confinement that could not be set up."""


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """The orders, as JSON from the host."""

    command: tuple[str, ...]
    user: int | None
    """User and group to become; None: stay."""
    reads_closed_files: bool
    """That user keeps root's power of reading files, because some that it needs are closed to others."""
    has_landlock: bool
    has_seccomp: bool
    allows_unix: bool
    allows_memfd: bool
    has_warden: bool
    """Keep a parent outside that ends everything when the command ends or the host goes."""
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    listable: tuple[str, ...]
    limits: dict[str, int]
    """Resource limits by name without `RLIMIT_`."""
    targets: dict[str, Any]
    """What the probe tries to reach."""
    report_fd: int

    def to_json(self) -> bytes:
        """Return the orders as they cross to the child."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_json(text: bytes) -> Confinement:
        """Read what `to_json` wrote."""
        return Confinement(**json.loads(text))


def main() -> None:
    """Read the orders from the descriptor, obey them, and become the command."""
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        orders = Confinement.from_json(file.read())
    warden = _fork_under_warden(orders.report_fd) if orders.has_warden else None
    answer: dict[str, Any]
    try:
        confine(orders)
        if warden is not None:
            _die_with_parent(signal.SIGKILL)
            if os.getppid() != warden:
                os._exit(START_FAILED)
        answer = {"probe": probe.attempt_all(orders.targets)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    with os.fdopen(orders.report_fd, "wb") as report:
        report.write(json.dumps(answer).encode() + b"\n")
    if "error" in answer:
        os._exit(START_FAILED)
    os.execv(orders.command[0], list(orders.command))


def confine(orders: Confinement) -> None:
    """Give up what the orders say, for good.

    Raises:
        OSError: something could not be given up.
    """
    if orders.user is not None:
        become(orders.user, reads_closed_files=orders.reads_closed_files)
    for name, value in orders.limits.items():
        lower_limit(getattr(resource, f"RLIMIT_{name}"), value)
    landlock.set_no_new_privileges()
    if orders.has_landlock:
        landlock.restrict(orders.readable, orders.writable, orders.listable)
    if orders.has_seccomp:
        seccomp.install(allows_unix=orders.allows_unix, allows_memfd=orders.allows_memfd)


def lower_limit(which: int, value: int) -> None:
    """Set a limit for good, or keep the stricter one that is already in force."""
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def become(user: int, *, reads_closed_files: bool) -> None:
    """Become another user for good, with no power of root's but, if need be, that of reading what is closed.

    What that power reaches is what namespaces and Landlock leave in sight.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1 if reads_closed_files else 0, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if reads_closed_files:
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
        sets = (ctypes.c_uint32 * 6)(*[1 << CAP_DAC_READ_SEARCH] * 3, 0, 0, 0)
        _checked(libc.capset(header, sets), "capset")
        _checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0), "ambient capability")


def _checked(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)


def _fork_under_warden(report_fd: int) -> int:
    """Fork: the child, which becomes the command, gets the warden's number; the parent is it and never returns."""
    orphans.adopt()
    _die_with_parent(signal.SIGTERM)
    warden = os.getpid()
    child = os.fork()
    if child == 0:
        return warden
    os.closerange(3, report_fd + 4096)
    status: int = signal.SIGTERM
    with contextlib.suppress(_Ending):
        signal.signal(signal.SIGTERM, _end)
        status = _wait_for(child)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while (left := orphans.children()) or orphans.reap():
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        orphans.reap()
    _end_like(status)


def _die_with_parent(number: int) -> None:
    """Get a signal when the parent ends. The kernel forgets it when a process becomes another user."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def _end_like(status: int) -> NoReturn:
    """End as a child with this wait status did: whoever waits for the warden sees the command's end."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        lower_limit(resource.RLIMIT_CORE, 0)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


class _Ending(Exception):
    """The host wants everything ended."""


def _end(number: int, frame: object) -> None:
    raise _Ending


def _wait_for(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            return status
