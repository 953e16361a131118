"""Levels of isolation: what each demands, and which one a sandbox really had."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mergebench_core.errors import InputError, IsolationError
from mergebench_core.isolation.probe import ALLOWED

if TYPE_CHECKING:
    from mergebench_core.records import IsolationPart

VARIABLE = "MERGEBENCH_MIN_ISOLATION"
MEANINGS = {
    3: "namespaces, Landlock, seccomp, and hard limits on memory and processes",
    2: "namespaces, Landlock and seccomp; memory is watched, not hard-limited",
    1: "Landlock, seccomp and limits, no namespaces",
    0: "a process of its own, without a sandbox",
}
SAFE_LEVEL = 2
ADVICE = "run only plugins that you trust; `mergebench doctor` says what would raise it"
DENIED_AT_1 = (
    "read_file", "write_file", "tcp", "udp", "unix_path", "unix_abstract", "signal", "read_memory",
    "user_namespace",
)  # fmt: skip
"""What must have failed in the probe; level 2 adds the sight of other processes and uncounted memory."""


def level_of(probe: Mapping[str, str], mechanisms: tuple[str, ...], *, is_memory_hard: bool) -> int:
    """Return the level that a sandbox really has: by what the probe could not do."""
    if not probe or any(probe.get(name, ALLOWED) == ALLOWED for name in DENIED_AT_1):
        return 0
    has_namespaces = "mountns" in mechanisms and probe["see_process"] != ALLOWED
    if not has_namespaces or not (is_memory_hard or probe["memfd"] != ALLOWED):
        return 1
    return 3 if is_memory_hard else 2


def demanded_level() -> int:
    """Return the level below which nothing is run: 0 unless the user demands more.

    Raises:
        InputError: the environment variable holds something else than a level.
    """
    text = os.environ.get(VARIABLE, "0")
    if text not in {"0", "1", "2", "3"}:
        raise InputError(f"{VARIABLE}={text}: give a level from 0 to 3")
    return int(text)


def check_level(isolation: IsolationPart) -> None:
    """Check that a sandbox is as strong as the user demands.

    Raises:
        IsolationError: it is weaker.
    """
    if isolation.level < (demanded := demanded_level()):
        lacking = "; ".join(isolation.missing) or ", ".join(
            f"{name} {result}" for name, result in isolation.probe.items() if result == ALLOWED
        )
        raise IsolationError(
            f"isolation level {demanded} is demanded, this machine gives {isolation.level} ({lacking}); "
            "`mergebench doctor` says what would raise it"
        )
