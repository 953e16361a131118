"""Digests of a track: over each shipped file, and over everything in it that can move a score."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.errors import InputError

if TYPE_CHECKING:
    from mergebench_core.tracks.track import Task, Track, TrackBase


def file_digest(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of every file below `folder` that matches a glob of `patterns`, by relative path."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(paths)}


def track_digest(track: Track) -> str:
    """Return the sha256 over canonical JSON of everything in `track` that can move a score.

    Titles and the place of the track's folder on this machine are left out.
    """
    content = {
        "name": track.name,
        "domains": list(track.domains),
        "bases": [_base_content(track, base) for _, base in sorted(track.bases.items())],
        "tasks": sorted((_task_content(task) for task in track.tasks), key=lambda task: str(task["name"])),
        "task_folder": _relative(track, track.task_folder),
        "calibration_folder": _relative(track, track.calibration_folder),
        "num_calibration_samples": track.num_calibration_samples,
        "max_validations": track.max_validations,
        "evaluation": {
            "batch_size": track.evaluation.batch_size,
            "max_length": track.evaluation.max_length,
            "num_threads": track.evaluation.num_threads,
        },
        "file_digests": dict(track.file_digests),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _base_content(track: Track, base: TrackBase) -> dict[str, Any]:
    models = {name: _relative(track, path) for name, path in base.models().items()}
    return {"name": base.name, "family": base.family, "models": models}


def _task_content(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "purpose": task.purpose,
        "domain": task.domain,
        "metric": task.metric,
        "num_items": task.num_items,
        "chance": task.chance,
    }


def _relative(track: Track, path: Path) -> str:
    return path.relative_to(track.folder).as_posix() if path.is_relative_to(track.folder) else path.name


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
