"""Digests of a track: over each shipped file, and over everything in it that can move a score."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.errors import InputError

if TYPE_CHECKING:
    from mergebench_core.tracks.track import Track


def file_digest(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of every file below `folder` that matches a glob of `patterns`, by relative path."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(paths)}


def verify_files(track: Track, names: Iterable[str] | None = None) -> None:
    """Compare files of the track (None: all) with their pinned digests.

    Args:
        track: the track whose `file_digests` are the truth.
        names: paths relative to the track's folder, files or folders of them.

    Raises:
        InputError: files are missing, changed or not pinned; the message names each.
    """
    wanted = list(track.file_digests) if names is None else _pinned(track, names)
    problems = [problem for name in wanted if (problem := _problem(track, name))]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise InputError(f"track '{track.name}' in {track.folder}: {shown}. Reinstall mergebench to restore it.")


def _pinned(track: Track, names: Iterable[str]) -> list[str]:
    pinned: list[str] = []
    for name in names:
        inside = [known for known in track.file_digests if known == name or known.startswith(f"{name}/")]
        pinned += inside or [name]
    return pinned


def _problem(track: Track, name: str) -> str | None:
    if name not in track.file_digests:
        return f"{name} has no pinned digest"
    path = track.folder / name
    if not path.is_file():
        return f"{name} is missing"
    return None if file_digest(path) == track.file_digests[name] else f"{name} differs from its digest"
