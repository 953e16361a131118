"""The lock: commits of all repositories and digests of their files, as the Hub had them when it was made.

`mergebench track lock` writes it; it ships with the package, so that everybody measures with the same models and
data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mergebench_core.errors import InputError
from mergebench_core.home import try_writing, write_atomic
from mergebench_core.hub import Progress, RepoKind, RevisionError, repo_files

LOCK_FILE = Path(__file__).with_name("lock.json")

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
"""Or another id of git's."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LockedFile(BaseModel):
    """One file of a repository."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    num_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256 | None
    """Of large files; None for small ones, which the Hub keeps in git."""
    blob_id: Commit | None = None
    """Git's id of small files; None for large ones."""

    @property
    def digest(self) -> str | None:
        """What its content must have: sha256 (64 letters) or git's id (40)."""
        return self.sha256 or self.blob_id


class LockedRepo(BaseModel):
    """One repository."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["model", "dataset"]
    revision: Commit
    files: dict[str, LockedFile]


class Lock(BaseModel):
    """What pins a track that lives on the Hub."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    repos: dict[str, LockedRepo] = {}

    def revisions(self) -> dict[str, str]:
        """Return the commit by repository."""
        return {name: repo.revision for name, repo in self.repos.items()}


def read_lock(path: Path = LOCK_FILE) -> Lock:
    """Return the lock; an empty one if there is no file.

    Raises:
        InputError: the file is not a lock.
    """
    if not path.is_file():
        return Lock()
    try:
        return Lock.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{path}: not a lock ({detail}); reinstall mergebench, or make it anew") from None


def make_lock(repos: Iterable[tuple[RepoKind, str]], progress: Progress) -> Lock:
    """Ask the Hub for the commit and the files of every repository.

    Raises:
        InputError: a repository is missing or closed to this token, or there is no network.
    """
    locked: dict[str, LockedRepo] = {}
    for kind, name in repos:
        progress(f"resolving {name}")
        revision, files = repo_files(kind, name)
        locked[name] = LockedRepo(
            kind=kind,
            revision=revision,
            files={
                file.name: LockedFile(num_bytes=file.num_bytes, sha256=file.sha256, blob_id=file.blob_id)
                for file in files
            },
        )
    return Lock(repos=locked)


@contextmanager
def telling_who_pins(repo: str, lock: Lock, note: Path) -> Iterator[None]:
    """Say of a commit that the Hub no longer has where it was taken from: the lock, or a note of commits."""
    try:
        yield
    except RevisionError as error:
        remedy = f"it is noted in {note}: remove {repo} there to take its latest commit"
        if repo in lock.repos:
            remedy = "it is pinned by the lock, which no longer fits the Hub: update mergebench"
        raise RevisionError(error.what, remedy) from None


def check_place(path: Path) -> None:
    """Check before the Hub is asked for all repositories that a lock can be written there.

    Raises:
        InputError: it cannot.
    """
    try:
        try_writing(path.parent)
        reason = "it is a folder" if path.is_dir() else None
    except OSError as error:
        reason = error.strerror
    if reason:
        raise InputError(f"--out {path}: cannot be written ({reason}); name another file")


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock, whole or not at all."""
    document: Any = lock.model_dump(mode="json")
    write_atomic(path, json.dumps(document, indent=1, sort_keys=True) + "\n")
