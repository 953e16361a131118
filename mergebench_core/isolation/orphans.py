"""Processes that are left behind: adopted, found and reaped, by whoever started what started them."""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of whatever one's children leave behind, so that it can be found and killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Return the children of this process, adopted ones among them; empty where the system does not tell."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:  # noqa: PTH123  # pathlib is slow to import
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def reap() -> bool:
    """Reap what has ended; return whether a child still lives."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
