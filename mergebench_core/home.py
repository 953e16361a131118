"""Where state lives: `--home`, else `MERGEBENCH_HOME`, else a folder of the platform's user data directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mergebench_core.errors import InputError, StoreError

VARIABLE = "MERGEBENCH_HOME"


class UnwritableError(StoreError, OSError):
    """A file cannot be written. Also what the system raises: to some callers a file only saves time."""

    def __init__(self, path: Path, reason: OSError) -> None:
        super().__init__(reason.errno, reason.strerror, str(path))

    def __str__(self) -> str:
        remedy = "free some room, or choose" if self.errno in (errno.ENOSPC, errno.EDQUOT) else "choose"
        return f"{self.filename}: cannot be written ({self.strerror}); {remedy} another folder (--home or --out)"


def home_folder(given: Path | None = None) -> Path:
    """Return the home folder without creating it."""
    from platformdirs import user_data_path

    chosen = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    return (chosen or user_data_path("mergebench", appauthor=False)).expanduser().absolute()


def writable_home(given: Path | None = None) -> Path:
    """Return the home folder, created if need be.

    Raises:
        StoreError: it cannot be created or written.
    """
    home = home_folder(given)
    try:
        try_writing(home)
    except OSError as error:
        raise StoreError(
            f"home {home} cannot be written ({error.strerror}); choose another with --home or {VARIABLE}"
        ) from None
    return home


def try_writing(folder: Path) -> None:
    """Create a folder if need be, and a file in it that is gone at once.

    Raises:
        OSError: one of them cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash.

    Raises:
        UnwritableError: no room, no right or no such place.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise UnwritableError(path, error) from None


def read_note(path: Path) -> dict[str, str]:
    """Return a table of texts that was noted below home; an empty one if there is none.

    Raises:
        InputError: the file is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise InputError(f"{path}: damaged; delete it, it is made anew")
    return found


@contextlib.contextmanager
def changed_note(path: Path) -> Iterator[dict[str, str]]:
    """Give a noted table to change, and write it after the block; other processes wait with their changes.

    Raises:
        InputError: the file is damaged.
        UnwritableError: it cannot be written.
    """
    with _held(path.with_name(f".{path.name}.lock")):
        note = read_note(path)
        before = dict(note)
        yield note
        if note != before:
            write_atomic(path, json.dumps(note, indent=1, sort_keys=True) + "\n")


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock file inside the block, after waiting for others; a killed holder lets go."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise UnwritableError(lock, error) from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
