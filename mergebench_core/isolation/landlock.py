"""Landlock: a process gives up all files but those named, TCP, and signals to processes outside, for good.

System calls and structures: https://docs.kernel.org/userspace-api/landlock.html. Numbers are the same on all
architectures.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from typing import Any

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
MAKE_CHAR, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 6, 1 << 9, 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
RIGHTS_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = EXECUTE | READ_FILE | READ_DIR
NEVER = EXECUTE | MAKE_CHAR | MAKE_SOCK | MAKE_FIFO | MAKE_BLOCK | MAKE_SYM
"""What even a writable folder does not give: nothing written there is executed or is anything but a plain file."""
ALL_TCP = 3
ALL_SCOPES = 3
"""Abstract Unix sockets and signals."""
PR_SET_NO_NEW_PRIVS = 38


def abi() -> int:
    """Return the kernel's Landlock version, 0 without Landlock."""
    return max(0, int(_syscall()(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION_FLAG))))


def restrict(readable: Iterable[str], writable: Iterable[str], listable: Iterable[str] = ()) -> None:
    """Give up everything but these paths and what lies beneath them: `create_ruleset` and `enforce` in one.

    Raises:
        OSError: the kernel refuses.
    """
    ruleset = create_ruleset(readable, writable, listable)
    try:
        enforce(ruleset)
    finally:
        os.close(ruleset)


def create_ruleset(readable: Iterable[str], writable: Iterable[str], listable: Iterable[str] = ()) -> int:
    """Return a descriptor of the rule that only these paths and what lies beneath them may be used.

    Paths that are not there are passed over. Of `listable` folders only the names can be read.

    Raises:
        OSError: the kernel refuses.
    """
    version = abi()
    handled = handled_rights(version)
    attributes = struct.pack("=QQQ", handled, ALL_TCP if version >= 4 else 0, ALL_SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _checked(CREATE_RULESET, attributes[:size], ctypes.c_size_t(size), ctypes.c_uint32(0))
    for paths, rights in ((readable, READ), (writable, handled & ~NEVER), (listable, READ_DIR)):
        for path in paths:
            _allow(ruleset, path, handled & rights)
    return ruleset


def enforce(ruleset: int) -> None:
    """Bind the calling thread, and what it starts, to a ruleset for good.

    Raises:
        OSError: the kernel refuses.
    """
    set_no_new_privileges()
    _checked(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))


def handled_rights(version: int) -> int:
    """Return the rights on files that this version of Landlock can take away."""
    rights = (1 << 13) - 1
    return (
        rights
        | (REFER if version >= 2 else 0)
        | (TRUNCATE if version >= 3 else 0)
        | (IOCTL_DEV if version >= 5 else 0)
    )


def set_no_new_privileges() -> None:
    """Let no program that is executed from here on gain rights (setuid and the like)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl no_new_privs")


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= RIGHTS_OF_FILES
        if rights:
            rule = struct.pack("=Qi", rights, descriptor)
            _checked(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(RULE_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _syscall() -> Any:
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    return function


def _checked(number: int, *arguments: object) -> int:
    result = int(_syscall()(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"landlock system call {number}")
    return result
