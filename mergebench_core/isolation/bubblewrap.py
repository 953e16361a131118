"""bubblewrap: a process in namespaces of its own that sees nothing but what is bound into them.

https://github.com/containers/bubblewrap; an optional system package. Options as in its manual page.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mergebench_core.isolation.policy import PACKAGE, PYTHON_FOLDERS, SYSTEM, SYSTEM_FILES, Policy, devices

TMPFS_BYTES = 64 << 20
COVER_BYTES = 1 << 20
CREATED = {"--dir": ["--perms", "0755"], "--tmpfs": ["--perms", "0755", "--size", str(COVER_BYTES)]}
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_DAC_READ_SEARCH")
"""Of a root inside that has yet to become another user."""
CONFINING = (PACKAGE / "isolation", *PYTHON_FOLDERS)
"""What confines the process inside, before it starts the command."""
TRIAL_S = 20
NOBODY = 65534
NAMESPACES = ("pid", "net", "ipc", "uts", "cgroup-try")


@functools.cache
def program() -> str | None:
    """Return bubblewrap's path, None without it."""
    return shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")


@functools.cache
def version() -> str:
    """Return bubblewrap's version."""
    done = subprocess.run([str(program()), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"[0-9][0-9.]*", done.stdout)
    return found.group(0) if found else "unknown"


@functools.cache
def obstacle() -> str | None:
    """Say what keeps bubblewrap from working here, None if it works."""
    if program() is None:
        return "bubblewrap is not installed; install the package 'bubblewrap'"
    command = [str(program()), *_namespace_options(), "--ro-bind", "/", "/", "--proc", "/proc", "/bin/true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TRIAL_S)
    except (OSError, subprocess.SubprocessError) as error:
        return f"bubblewrap cannot be started ({error})"
    if done.returncode == 0:
        return None
    reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return f"bubblewrap cannot make namespaces here ({reason}); {_remedy()}"


def _remedy() -> str:
    restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if restricted.is_file() and restricted.read_text(encoding="ascii").strip() == "1":
        return "AppArmor restricts user namespaces: see 'Ubuntu 24.04' in docs/security.md"
    return "user namespaces are switched off or this is a container: see 'Containers' in docs/security.md"


def _namespace_options() -> list[str]:
    options = [f"--unshare-{name}" for name in NAMESPACES]
    if os.geteuid() == 0:  # makes its namespaces as root; the process gives root up by itself, before foreign code
        return [*options, *(word for name in CAPABILITIES for word in ("--cap-add", name))]
    return [*options, "--unshare-user", "--disable-userns", "--uid", str(NOBODY), "--gid", str(NOBODY)]


def command(policy: Policy, environment: Mapping[str, str]) -> list[str]:
    """Return the words to put before a command, so that it runs in namespaces that show what `policy` allows."""
    words = [str(program()), *_namespace_options(), "--die-with-parent", "--new-session", "--hostname", "sandbox"]
    words += ["--clearenv", *(word for name, value in environment.items() for word in ("--setenv", name, value))]
    for path in SYSTEM:
        words += (
            ["--symlink", str(Path(path).readlink()), path]
            if Path(path).is_symlink()
            else ["--ro-bind-try", path, path]
        )
    words += [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--perms",
        "1777",
        "--size",
        str(TMPFS_BYTES),
        "--tmpfs",
        "/dev/shm",
    ]
    words += [word for path in SYSTEM_FILES if path.startswith("/sys/") for word in ("--ro-bind-try", path, path)]
    if policy.has_devices:
        words += ["--ro-bind-try", "/sys", "/sys"]
        words += [word for path in devices() for word in ("--dev-bind", path, path)]
    mounts = _mounts(policy)
    for path, kind in mounts.items():
        words += [*CREATED[kind], kind, path] if kind in CREATED else [kind, path, path]
    for covered in [path for path, kind in mounts.items() if kind == "--tmpfs"] + ["/"]:
        words += ["--remount-ro", covered]
    return [*words, "--chdir", str(policy.writable), "--"]


def _mounts(policy: Policy) -> dict[str, str]:
    """Return what is mounted or made where, in an order in which nothing covers what comes later.

    Folders on the way are made by name: bubblewrap would make them for root alone.
    """
    kinds = dict.fromkeys([*policy.readable, *CONFINING], "--ro-bind")
    kinds |= {path: "--tmpfs" for path in policy.hidden if _is_within(path, policy.readable)}
    kinds |= {policy.writable: "--bind"}
    for parent in {parent for path in kinds for parent in path.parents}:
        above = next(
            (kinds[path] for path in parent.parents if path in kinds and kinds[path] != "--dir"), "--tmpfs"
        )
        if above == "--tmpfs" and len(parent.parts) > 1:
            kinds.setdefault(parent, "--dir")
    ordered = sorted(kinds.items(), key=lambda mount: len(mount[0].parts))
    return {str(path): kind for path, kind in ordered if not _is_system(path)}


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(name) for name in SYSTEM)


def _is_within(path: Path, others: tuple[Path, ...]) -> bool:
    return path.is_dir() and any(path.is_relative_to(other) for other in others)
