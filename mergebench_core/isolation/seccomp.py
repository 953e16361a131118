"""seccomp: a filter that refuses system calls no merging method or program needs, a deny-list of classic BPF.

Sockets other than Unix ones cannot be made, new namespaces neither; what reaches into other processes, keeps
memory beyond them, mounts, traces or talks to rare kernel interfaces is refused.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
from dataclasses import dataclass

PR_SET_SECCOMP, MODE_FILTER = 22, 2
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
KILL, ALLOW, ERROR = 0x80000000, 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24
"""Offsets in `struct seccomp_data`; the low half of an argument on little-endian machines."""
NAMESPACE_FLAGS = 0x7E020000
SOCKET_TYPE_MASK = 0xF
X32_CALLS = 0x40000000


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """The numbers of one architecture."""

    audit: int
    denied: dict[str, int]
    clone: int
    clone3: int
    socket: int
    socketpair: int
    memfd_create: int
    has_x32: bool = False


_X86_64 = _Machine(
    audit=0xC000003E,
    has_x32=True,
    clone=56, clone3=435, socket=41, socketpair=53, memfd_create=319,
    denied={
        "shmget": 29, "semget": 64, "msgget": 68,
        "ptrace": 101, "syslog": 103, "mknod": 133, "personality": 135, "pivot_root": 155, "acct": 163,
        "chroot": 161, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "iopl": 172,
        "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179, "kexec_load": 246,
        "add_key": 248, "request_key": 249, "keyctl": 250, "mknodat": 259, "unshare": 272,
        "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
        "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "pidfd_send_signal": 424, "io_uring_setup": 425,
        "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
        "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
        "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "open_tree_attr": 467,
    },
)  # fmt: skip
_AARCH64 = _Machine(
    audit=0xC00000B7,
    clone=220, clone3=435, socket=198, socketpair=199, memfd_create=279,
    denied={
        "msgget": 186, "semget": 190, "shmget": 194,
        "mknodat": 33, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "quotactl": 60, "acct": 89,
        "personality": 92, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
        "syslog": 116, "ptrace": 117, "reboot": 142, "add_key": 217, "request_key": 218, "keyctl": 219,
        "swapon": 224, "swapoff": 225, "perf_event_open": 241, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
        "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294, "pidfd_send_signal": 424,
        "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
        "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438,
        "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447,
        "open_tree_attr": 467,
    },
)  # fmt: skip
_MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}


def is_known_machine() -> bool:
    """Return whether the numbers of this architecture's system calls are known here."""
    return platform.system() == "Linux" and platform.machine() in _MACHINES


def install(*, allows_unix: bool, allows_memfd: bool) -> None:
    """Install the filter on the calling thread and what it starts, for good; needs no_new_privs.

    `allows_unix`: sockets of the Unix family may be made. Without, only connected pairs: nobody can be reached.

    Raises:
        OSError: the kernel refuses, or the architecture is not known.
    """
    if not is_known_machine():
        raise OSError(errno.ENOSYS, f"no system call numbers for {platform.machine()}")
    program = _program(_MACHINES[platform.machine()], allows_unix=allows_unix, allows_memfd=allows_memfd)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.c_char_p(header), 0, 0):
        raise OSError(ctypes.get_errno(), "prctl seccomp")


def _program(machine: _Machine, *, allows_unix: bool, allows_memfd: bool) -> bytes:
    refuse = ERROR | errno.EPERM
    unknown = ERROR | errno.ENOSYS
    lines = [
        _line(LOAD, ARCHITECTURE),
        _line(JUMP_EQUAL, machine.audit, 1, 0),
        _line(RETURN, KILL),
        _line(LOAD, NUMBER),
    ]
    if machine.has_x32:
        lines += [_line(JUMP_AT_LEAST, X32_CALLS, 0, 1), _line(RETURN, unknown)]
    denied = [*machine.denied.values(), *([] if allows_memfd else [machine.memfd_create])]
    for number in denied:
        lines += [_line(JUMP_EQUAL, number, 0, 1), _line(RETURN, refuse)]
    lines += [_line(JUMP_EQUAL, machine.clone3, 0, 1), _line(RETURN, unknown)]  # libc falls back to clone
    lines += _when(
        machine.clone, [_line(LOAD, FIRST_ARGUMENT), _line(JUMP_ANY_BIT, NAMESPACE_FLAGS, 0, 1)], refuse
    )
    family = [_line(LOAD, FIRST_ARGUMENT), _line(JUMP_EQUAL, socket.AF_UNIX, 1, 0)]
    no_family = ERROR | errno.EAFNOSUPPORT
    if allows_unix:
        lines += _when(machine.socket, family, no_family)
        lines += _when(machine.socketpair, family, no_family)
    else:  # a pair of datagram sockets could still be sent to any address
        lines += [_line(JUMP_EQUAL, machine.socket, 0, 1), _line(RETURN, no_family)]
        stream = [
            _line(LOAD, SECOND_ARGUMENT),
            _line(AND, SOCKET_TYPE_MASK),
            _line(JUMP_EQUAL, socket.SOCK_STREAM, 1, 0),
        ]
        lines += _when(machine.socketpair, stream, no_family)
    return b"".join([*lines, _line(RETURN, ALLOW)])


def _when(number: int, check: list[bytes], result: int) -> list[bytes]:
    """Return lines that for one call run `check`, whose last jump skips the line that returns `result`."""
    inside = [*check, _line(RETURN, result), _line(RETURN, ALLOW)]
    return [_line(JUMP_EQUAL, number, 0, len(inside)), *inside]


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value & 0xFFFFFFFF)
