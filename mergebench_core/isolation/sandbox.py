"""Starting a process in the strongest sandbox that this machine gives, and ending it with all it started."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mergebench_core.errors import IsolationError
from mergebench_core.isolation import bubblewrap, cgroups, gpu_memory, identity, landlock, processes, seccomp
from mergebench_core.isolation.cgroups import Cgroup
from mergebench_core.isolation.confinement import BOOTSTRAP, Confinement
from mergebench_core.isolation.level import check_level, demanded_level, level_of
from mergebench_core.isolation.policy import (
    DRIVER_FILES,
    PACKAGE,
    PYTHON,
    SYSTEM,
    SYSTEM_FILES,
    Limits,
    Policy,
    devices,
    interpreter_paths,
    outermost,
)
from mergebench_core.isolation.targets import Targets
from mergebench_core.isolation.watch import Check, FolderCheck, Watch
from mergebench_core.records import IsolationPart

REPORT_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0
PAUSE_S = 0.005
SCOPED_ABI = 6
JOIN_GROUPS = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
"""For a shell: it joins the groups itself, then becomes the command; the host never is in them."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What there is to isolate with."""

    has_bubblewrap: bool
    has_landlock: bool
    has_seccomp: bool
    has_cgroup: bool
    missing: tuple[str, ...]


@functools.cache
def means(ceiling: int = 3) -> Means:
    """Return what this machine gives; `ceiling` leaves out what levels above it need."""
    is_linux = sys.platform == "linux"
    missing: list[str] = [] if is_linux else [f"{platform.system()} has none of the mechanisms; use Linux"]

    def has(level: int, obstacle: Callable[[], str | None]) -> bool:
        if not is_linux or level > ceiling:
            return False
        if found := obstacle():
            missing.append(found)
        return found is None

    has_landlock = has(1, _landlock_obstacle)
    if has_landlock and (version := landlock.abi()) < SCOPED_ABI:
        missing.append(f"Landlock version {version} does not hold back signals; a kernel from 6.12 on does")
    return Means(
        has_landlock=has_landlock,
        has_seccomp=has(1, _seccomp_obstacle),
        has_bubblewrap=has(2, bubblewrap.obstacle),
        has_cgroup=has(3, _cgroup_obstacle),
        missing=tuple(missing),
    )


def _landlock_obstacle() -> str | None:
    return None if landlock.abi() else "Landlock is not there: a kernel from 5.13 on that has it switched on"


def _seccomp_obstacle() -> str | None:
    return None if seccomp.is_known_machine() else f"no seccomp filter for {platform.machine()} here"


def _cgroup_obstacle() -> str | None:
    group = cgroups.create(Limits(memory_bytes=1 << 30))
    if group is None:
        return "no control group with memory and pids can be made: see 'Control groups' in docs/security.md"
    group.remove()
    return None


class Sandbox:
    """A running process, its limits, and the record of its isolation."""

    def __init__(
        self, process: subprocess.Popen[bytes], policy: Policy, cgroup: Cgroup | None, isolation: IsolationPart
    ) -> None:
        self.process = process
        self.isolation = isolation
        self.overrun: str | None = None
        """What was overrun, if that ended it."""
        self.gpu = gpu_memory.GpuMeter(self.all_processes, gpu_memory.source() if isolation.has_devices else None)
        self._policy = policy
        self._cgroup = cgroup
        self._peak_bytes = 0
        self._was_out_of_memory = False
        self._is_frozen = False
        self._num_thaws = 0
        self._seen_frozen = -1
        """After how many thaws the memory of what stands still was looked at."""
        self._ending = threading.Lock()
        self._watch: Watch | None = None

    def watch(self, *checks: Check) -> None:
        """Watch memory, of the GPU too, and folder, and whatever else the host counts."""
        own: list[Check] = [FolderCheck(self._policy.writable, self._policy.limits), self._check_memory]
        self._watch = Watch([*own, *checks], self._end_overrun)
        self.gpu.start()

    def freeze(self) -> None:
        """Stop everything inside until `thaw`: nothing there runs while the host works on what came out.

        What cannot be stopped is ended.
        """
        self._is_frozen = processes.stop_all(self.process.pid)
        if not self._is_frozen:
            self._end_overrun("more processes than could be stopped")

    def thaw(self) -> None:
        """Let everything inside go on."""
        self._is_frozen = False
        self._num_thaws += 1
        processes.send_all(processes.descendants(self.process.pid), signal.SIGCONT)

    def all_processes(self) -> list[int]:
        """Return the process and all below it, in the host's view."""
        return [self.process.pid, *self._descendants()]

    def peak_memory_bytes(self) -> int | None:
        """Return the peak resident memory so far: of the largest process, or of all where that was watched."""
        peaks = [processes.peak_rss_bytes(pid) for pid in self.all_processes()]
        self._peak_bytes = max(self._peak_bytes, *peaks)
        return self._peak_bytes or None

    def is_out_of_memory(self) -> bool:
        """Return whether the hard limit on memory ended something inside."""
        self._was_out_of_memory |= self._cgroup is not None and self._cgroup.is_out_of_memory()
        return self._was_out_of_memory

    def stop(self) -> None:
        """End everything inside; there is nothing to save."""
        if self._watch:
            self._watch.stop()
        with self._ending:
            left = self._descendants()
            if self.process.poll() is None:
                self.process.terminate()
                processes.send_all([self.process.pid], signal.SIGCONT)
                try:
                    self.process.wait(timeout=END_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            self._kill_left(left)
            if self._cgroup:
                self.is_out_of_memory()
                self._cgroup.remove()
        self.gpu.stop()

    def _kill_left(self, left: list[int]) -> None:
        """Kill what outlived the process; without namespaces and warden something can."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while True:
            alive = [pid for pid in left if processes.is_alive(pid)]
            alive += self._cgroup.processes() if self._cgroup else []
            if not alive or time.monotonic() > deadline:
                return
            processes.send_all(alive, signal.SIGKILL)
            time.sleep(PAUSE_S)

    def _descendants(self) -> list[int]:
        return processes.descendants(self.process.pid) if self.process.returncode is None else []

    def _end_overrun(self, overrun: str) -> None:
        self.overrun = overrun
        self.stop()

    def _check_memory(self) -> str | None:
        is_frozen, num_thaws = self._is_frozen, self._num_thaws
        if self._cgroup is not None or (is_frozen and self._seen_frozen == num_thaws):
            return None  # what stands still takes no more memory, and looking is dear
        used = sum(processes.memory_bytes(pid) for pid in self._descendants())
        if is_frozen:
            self._seen_frozen = num_thaws
        self._peak_bytes = max(self._peak_bytes, used)
        limit = self._policy.limits.memory_bytes
        return f"more than {limit} bytes of memory" if limit is not None and used > limit else None


def start(
    command: Sequence[str],
    policy: Policy,
    environment: Mapping[str, str],
    *,
    pass_fds: Sequence[int] = (),
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    ceiling: int = 3,
) -> Sandbox:
    """Start a command under a policy at the strongest level there is, at most `ceiling`.

    Raises:
        IsolationError: it could not be started, or only below the level that the user demands.
    """
    demanded_level()  # a wrong one is said before anything is started
    given = means(ceiling)
    cgroup = cgroups.create(policy.limits) if given.has_cgroup else None
    user = identity.fresh_user() if identity.is_root() and given.has_landlock else None
    launch = _Launch(policy=policy, means=given, cgroup=cgroup, user=user)
    streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    try:
        process, found = launch.run(command, environment, tuple(pass_fds), streams)
    except BaseException:
        if cgroup:
            cgroup.remove()
        raise
    sandbox = Sandbox(process, policy, cgroup, launch.isolation(found))
    try:
        check_level(sandbox.isolation)
    except IsolationError:
        with process:  # closes its pipes
            sandbox.stop()
        raise
    return sandbox


@dataclass(frozen=True, kw_only=True)
class _Launch:
    """How one process is started."""

    policy: Policy
    means: Means
    cgroup: Cgroup | None
    user: int | None
    """Root's sandboxes get a user of their own."""

    @functools.cached_property
    def reads_closed_files(self) -> bool:
        """Whether that user needs root's power of reading: files are closed to others, or folders above them."""
        is_by_path = not self.means.has_bubblewrap
        paths = [*self.policy.readable, *([self.policy.writable] if is_by_path else [])]
        return self.user is not None and bool(identity.closed_path(paths, is_reached_by_path=is_by_path))

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        pass_fds: tuple[int, ...],
        streams: Mapping[str, Any],
    ) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
        """Start the process; return it and what the probe found, once it is confined."""
        if sys.platform != "linux":
            return subprocess.Popen(
                command, cwd=self.policy.writable, env=dict(environment), pass_fds=pass_fds,
                start_new_session=True, **streams,
            ), {}  # fmt: skip
        if self.user is not None:
            os.chown(self.policy.writable, self.user, self.user)
        read_fd, write_fd = os.pipe()
        with tempfile.TemporaryFile() as orders, Targets() as targets, os.fdopen(read_fd, "rb") as report:
            orders.write(self._confinement(command, targets.orders(), write_fd).to_json())
            orders.flush()
            orders.seek(0)
            try:
                process = subprocess.Popen(
                    [*self._wrapping(environment), *_confining(orders.fileno())], cwd=self.policy.writable,
                    env=dict(environment), pass_fds=(*pass_fds, orders.fileno(), write_fd),
                    start_new_session=True, **streams,
                )  # fmt: skip
            finally:
                os.close(write_fd)
            answer = _read_report(report)
            if "probe" in answer:
                return process, targets.corrected(answer["probe"])
        with process:
            process.kill()
        raise IsolationError(
            f"the sandbox could not be set up ({answer.get('error', 'it ended at once')}); `mergebench doctor` "
            "says what this machine gives"
        )

    def isolation(self, probe: Mapping[str, str]) -> IsolationPart:
        """Return what is recorded."""
        is_hard = self.cgroup is not None and self.policy.limits.memory_bytes is not None
        mechanisms = self._mechanisms()
        limits = self.policy.limits
        counted = {"memory_bytes": limits.memory_bytes, "disk_bytes": limits.disk_bytes}
        return IsolationPart(
            level=level_of(probe, mechanisms, is_memory_hard=is_hard),
            backend=f"bubblewrap {bubblewrap.version()}" if self.means.has_bubblewrap else "process",
            mechanisms=mechanisms,
            missing=self.means.missing,
            has_own_user=self.user is not None,
            has_devices=self.policy.has_devices and bool(devices()),
            is_memory_hard=is_hard,
            kernel=platform.release(),
            limits={"processes": limits.processes, "files": limits.files}
            | {name: value for name, value in counted.items() if value is not None},
            probe=dict(probe),
        )

    def _mechanisms(self) -> tuple[str, ...]:
        names = ["pidns", "netns", "ipcns", "utsns", "mountns"] if self.means.has_bubblewrap else []
        names += ["userns"] if self.means.has_bubblewrap and not identity.is_root() else []
        names += [f"landlock-{landlock.abi()}"] if self.means.has_landlock else []
        names += ["seccomp"] if self.means.has_seccomp else []
        names += [f"cgroup-v{self.cgroup.version}"] if self.cgroup else []
        names += ["own-user"] if self.user is not None else []
        names += ["reads-closed-files"] if self.reads_closed_files else []
        return (*names, "rlimits")

    def _wrapping(self, environment: Mapping[str, str]) -> list[str]:
        words = bubblewrap.command(self.policy, environment) if self.means.has_bubblewrap else []
        if self.cgroup:
            words = ["/bin/sh", "-c", JOIN_GROUPS, "sh", *map(str, self.cgroup.folders), "--", *words]
        return words

    def _confinement(self, command: Sequence[str], targets: dict[str, Any], report_fd: int) -> Confinement:
        policy, given = self.policy, self.means
        readable, listable = policy.rules()
        shown = devices() if policy.has_devices else ()
        shared = ("/dev/shm",) if given.has_bubblewrap else ()
        return Confinement(
            command=tuple(command),
            user=self.user,
            reads_closed_files=self.reads_closed_files,
            has_landlock=given.has_landlock,
            has_seccomp=given.has_seccomp,
            allows_unix=given.has_bubblewrap,
            allows_memfd=self.cgroup is not None or not given.has_seccomp,
            has_warden=not given.has_bubblewrap,
            readable=(*SYSTEM, *SYSTEM_FILES, *readable, *(DRIVER_FILES if shown else ())),
            writable=(str(policy.writable), "/dev/null", *shared, *shown),
            listable=listable,
            limits=self._rlimits(),
            targets=targets,
            report_fd=report_fd,
        )

    def _rlimits(self) -> dict[str, int]:
        limits = self.policy.limits
        found = {"CORE": 0, "NPROC": limits.processes + _num_own_threads(self.user)}
        if limits.disk_bytes is not None:
            found["FSIZE"] = limits.disk_bytes
        return found | limits.rlimits


def _confining(orders_fd: int) -> list[str]:
    program = BOOTSTRAP.format(module="isolation.confinement")
    return [str(PYTHON), "-I", "-S", "-B", "-c", program, str(PACKAGE), str(orders_fd)]


def _read_report(report: IO[bytes]) -> dict[str, Any]:
    """Return what the confined process reports; empty if it ended, or was silent for too long."""
    if not select.select([report], [], [], REPORT_TIMEOUT_S)[0]:
        return {"error": "it gave no sign of life"}
    with contextlib.suppress(ValueError):
        answer = json.loads(report.readline())
        return answer if isinstance(answer, dict) else {}
    return {}


def _num_own_threads(user: int | None) -> int:
    """Return how many threads of the sandbox's user run already: its limit counts them."""
    if user is not None:
        return 0
    owner = os.geteuid()
    count = 0
    for folder in Path("/proc").glob("[0-9]*/task"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == owner:
                count += sum(1 for _ in folder.iterdir())
    return count


def core_paths() -> tuple[Path, ...]:
    """Return what a process needs that runs this package: the interpreter, its libraries, the package."""
    return outermost([*interpreter_paths(), PACKAGE])
