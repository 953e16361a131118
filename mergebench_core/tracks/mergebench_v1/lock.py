"""The lock: commits of all repositories and digests of their files, as the Hub had them when it was made.

`mergebench track lock` writes it; it ships with the package, so that everybody measures with the same models and
data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mergebench_core.errors import InputError
from mergebench_core.home import write_atomic
from mergebench_core.hub import Progress, RepoKind, repo_files

LOCK_FILE = Path(__file__).with_name("lock.json")

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LockedFile(BaseModel):
    """One file of a repository."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    num_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256 | None
    """None for small files that the Hub keeps in git: the commit pins them."""


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


def read_note(path: Path) -> dict[str, str]:
    """Return a table of texts that was noted below home; an empty one if there is none.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        return TypeAdapter(dict[str, str]).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise InputError(f"{path}: damaged; delete it, it is made anew") from None


def write_note(path: Path, note: Mapping[str, str]) -> None:
    """Write a table of texts, whole or not at all."""
    write_atomic(path, json.dumps(note, indent=1, sort_keys=True) + "\n")


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
            files={file.name: LockedFile(num_bytes=file.num_bytes, sha256=file.sha256) for file in files},
        )
    return Lock(repos=locked)


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock, whole or not at all."""
    document: Any = lock.model_dump(mode="json")
    write_atomic(path, json.dumps(document, indent=1, sort_keys=True) + "\n")
