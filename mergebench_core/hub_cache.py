"""What the Hub's local cache holds of models, asking no network."""

from __future__ import annotations

import contextlib
import fcntl
import re
import time
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ALLOWED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer*",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "*.py",
    "LICENSE*",
)
IGNORED = ("*/*", "consolidated*")
"""Other formats of the same weights, which some repositories keep in folders or beside the shards."""
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
STALE_S = 600.0
"""What a download has not written to for so long is not written any more."""


def is_fetched(name: str) -> bool:
    """Return whether a file of a model repository is among those that are fetched."""
    return any(fnmatch(name, one) for one in ALLOWED) and not any(fnmatch(name, one) for one in IGNORED)


def snapshot(repo: str, revision: str | None, **how: Any) -> Any:
    """Call `snapshot_download` for the files of a model that are fetched."""
    from huggingface_hub import snapshot_download

    return snapshot_download(
        repo, revision=revision, allow_patterns=list(ALLOWED), ignore_patterns=list(IGNORED), **how
    )


def cached(repo: str, revision: str | None) -> Path | None:
    """Return the folder of a model if the local cache has it and knows that it is whole; asks no network."""
    try:
        folder = Path(snapshot(repo, revision, local_files_only=True))
    except OSError:  # nothing there, or a file is missing
        return None
    return folder if is_listed(repo, folder.name) else None


def missing_files(repo: str, revision: str | None) -> list[str]:
    """Return the names of a model's files that the local cache knows of and lacks; asks no network."""
    from huggingface_hub.errors import IncompleteSnapshotError

    try:
        snapshot(repo, revision, local_files_only=True)
    except IncompleteSnapshotError as error:
        folder = Path(error.snapshot_path)
        return absent(folder, _listed(repo, folder.name) or [])
    except OSError:
        pass
    return []


def absent(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the names of files that are fetched and not in the folder."""
    return sorted(name for name in names if is_fetched(name) and not (folder / name).is_file())


def is_listed(repo: str, commit: str) -> bool:
    """Return whether the cache has the list of a model's files, without which a part looks like the whole."""
    return _listed(repo, commit) is not None


def _listed(repo: str, commit: str) -> list[str] | None:
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return [file.path for file in get_cached_repo_tree(repo, revision=commit)]
    except CachedRepoTreeNotFoundError:
        return None


def kept_digest(path: Path) -> str | None:
    """Return the digest under which the local cache keeps a model's file; None where it does not say.

    It is the sha256 of large files (64 letters), and git's id of those that are kept in git (40).
    """
    name = path.readlink().name if path.is_symlink() else ""
    return name if DIGEST.fullmatch(name) else None


def remove_cut_off(repo: str) -> None:
    """Delete what downloads of a model left that were killed; nobody goes on with it."""
    from huggingface_hub import constants

    cache, name = Path(constants.HF_HUB_CACHE), f"models--{repo.replace('/', '--')}"
    for part in (cache / name / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another's cache
            lock = cache / ".locks" / name / f"{part.name.partition('.')[0]}.lock"
            is_old = time.time() - part.stat().st_mtime > STALE_S  # on some disks everybody gets the lock
            if is_old and not _is_held(lock):
                part.unlink()


def _is_held(lock: Path) -> bool:
    if not lock.is_file():
        return False
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
