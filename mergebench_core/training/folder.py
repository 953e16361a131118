"""The output folder of a training: what may lie there, who writes into it, and how much room it has."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mergebench_core.errors import InputError, RunError
from mergebench_core.training.plan import PLAN, RESULT

LOCK = ".training.lock"
BYTES_PER_PARAMETER = 12
"""Of a checkpoint: weights and AdamW's two moments, in float32."""
NUM_CHECKPOINTS = 2
"""The last one goes when the next one is written."""
DISK_IS_FULL = (
    "No space left", "Disk quota exceeded", "PytorchStreamWriter failed", "unexpected pos ", "iostream error",
)  # fmt: skip
"""What errors say that have no number; the last three are torch's, which gives no reason."""


def check_folder(folder: Path) -> None:
    """Check that a training may write here: nothing there, or a training of ours.

    Raises:
        InputError: a file, a folder with other things in it, or one that cannot be read.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {folder}: is a file; give a folder")
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be read ({error.strerror}); give another folder") from None
    others = [name for name in names if name != LOCK and not name.startswith(f".{PLAN}")]
    if others and RESULT not in others and PLAN not in names:
        raise InputError(f"--out {folder}: is not empty and holds no training; give a new folder")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the output folder, made if need be, inside the block; a killed holder lets go.

    Raises:
        InputError: another process trains into this folder, or it cannot be written.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror}); give another folder") from None
    with file:
        if not _is_held(file, path):
            raise InputError(f"--out {folder}: another process is training into it; wait for it")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_held(file: IO[str], path: Path) -> bool:
    """Lock the file and say whether that holds the folder: an earlier holder may have removed it meanwhile."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def check_room(folder: Path, size_b: float) -> None:
    """Check that the disk has room for the checkpoints of `size_b` billion parameters; what is there counts.

    Raises:
        InputError: it has not.
    """
    there = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    needed = NUM_CHECKPOINTS * BYTES_PER_PARAMETER * size_b * 1e9 - there
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"--out {folder}: the disk has {free / 2**30:.1f} GiB free, two checkpoints of weights and optimizer "
            f"take {needed / 2**30:.1f} GiB; free some room or give a folder on another disk"
        )


@contextmanager
def full_disk_in_words(folder: Path) -> Iterator[None]:
    """Turn what is raised inside the block on a full disk into one line.

    Raises:
        RunError: no room for a checkpoint, the exported model or what they are made of.
    """
    try:
        yield
    except Exception as error:
        if not _is_disk_full(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"--out {folder}: no room left on the disk ({reason}); free some room, then the same command goes on"
        ) from None


def _is_disk_full(error: Exception) -> bool:
    """Say so of an error of Python, torch or safetensors."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(text in str(error) for text in DISK_IS_FULL)
