"""Whose a sandboxed process is. Root runs none as itself: each gets a user that owns nothing else."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

FIRST_USER, NUM_USERS = 61_184, 4_000
"""Of the numbers that systemd keeps for users without an account (https://systemd.io/UIDS-GIDS)."""
OTHERS_READ, OTHERS_ENTER = 0o004, 0o001


def is_root() -> bool:
    """Return whether this process is root's."""
    return os.geteuid() == 0


def fresh_user() -> int:
    """Return the number of a user for one sandbox: limits per user are then that sandbox's own."""
    return FIRST_USER + secrets.randbelow(NUM_USERS)


def closed_path(paths: Iterable[Path], *, is_reached_by_path: bool) -> Path | None:
    """Return the first path, or what lies directly in it, that is closed to other users; None if all are open.

    `is_reached_by_path`: folders above count too. In namespaces they do not: what is bound there has others.
    """
    for path in paths:
        inside = list(path.iterdir()) if path.is_dir() else []
        above = list(path.parents) if is_reached_by_path else []
        for found in [*above, path, *inside]:
            needed = OTHERS_ENTER if found.is_dir() else OTHERS_READ
            if not found.is_symlink() and not found.stat().st_mode & needed:
                return found
    return None
