"""Where state lives: `--home`, else `MERGEBENCH_HOME`, else a folder of the platform's user data directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mergebench_core.errors import StoreError

VARIABLE = "MERGEBENCH_HOME"


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
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return home
    except OSError as error:
        raise StoreError(
            f"home {home} cannot be written ({error.strerror}); choose another with --home or {VARIABLE}"
        ) from None


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
