"""Brings the track to this machine: models through the Hub's cache, data prepared below home."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mergebench_core import hub
from mergebench_core.errors import CheckpointError
from mergebench_core.tracks.digests import file_digest
from mergebench_core.tracks.mergebench_v1.lock import Lock, LockedRepo, read_lock, read_note, write_note
from mergebench_core.tracks.mergebench_v1.preparation import prepare_data
from mergebench_core.tracks.track import HubBase, Track, TrackBase


def fetch(track: Track, base: HubBase, home: Path, progress: hub.Progress) -> Track:
    """Return the track with the models of `base` and all data on this machine.

    Raises:
        CheckpointError: a model cannot be fetched, or differs from the lock.
        InputError: data cannot be fetched or prepared.
    """
    lock = read_lock()
    data = prepare_data(home, lock, progress, track.protocol)
    local, commits = fetch_models(base, lock, home, progress)
    revisions = dict(data.revisions) | commits
    return dataclasses.replace(
        track,
        bases={**track.bases, base.name: local},
        items_folder=data.items_folder,
        calibration_folder=data.calibration_folder,
        data_digests=data.digests,
        revisions=revisions,
        overlaps=data.overlaps,
    )


def fetch_models(
    base: HubBase, lock: Lock, home: Path, progress: hub.Progress
) -> tuple[TrackBase, dict[str, str]]:
    """Fetch base and specialists, and return their folders and their commits by repository.

    Raises:
        CheckpointError: a model cannot be fetched, or differs from the lock.
    """
    room = home / "tracks" / "mergebench-v1"
    note = room / "model_revisions.json"
    known = read_note(note)
    folders: dict[str, Path] = {}
    commits: dict[str, str] = {}
    for name, model in base.hub_models.items():
        folder, commit = hub.fetch(model.repo, model.revision or known.get(model.repo), progress)
        if locked := lock.repos.get(model.repo):
            verify_model(folder, model.repo, locked, room / "verified.json", progress)
        folders[name], commits[model.repo] = folder, commit
        if known.get(model.repo) != commit:
            known[model.repo] = commit
            write_note(note, known)
    specialists = {name.partition(":")[2]: folder for name, folder in folders.items() if name != "base"}
    local = TrackBase(
        name=base.name,
        title=base.title,
        family=base.family,
        path=folders["base"],
        specialists=specialists,
        references={},
        prompt_format=base.prompt_format,
        hub_models=base.hub_models,
    )
    return local, commits


def verify_model(folder: Path, repo: str, locked: LockedRepo, note: Path, progress: hub.Progress) -> None:
    """Compare the large files of a fetched model with the lock, once per file as it is.

    Raises:
        CheckpointError: a file is missing or differs.
    """
    if unknown := sorted({path.name for path in folder.glob("*.safetensors")} - set(locked.files)):
        raise CheckpointError(f"{repo}: {unknown[0]} is not in the lock; delete {folder} and fetch again")
    seen = read_note(note)
    for name, sha256 in _pinned(locked).items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{repo}: {name} is missing in {folder}; fetch again")
        found = path.stat()
        state = f"{sha256} {found.st_size} {found.st_mtime_ns}"
        if seen.get(str(path)) == state:
            continue
        progress(f"verifying {repo}/{name}")
        if file_digest(path) != sha256:
            raise CheckpointError(f"{repo}: {name} differs from the lock; delete {path.resolve()} and fetch again")
        seen[str(path)] = state
        write_note(note, seen)


def _pinned(locked: LockedRepo) -> dict[str, str]:
    """Return the digests of the files that are fetched and not kept in git, by name."""
    return {
        name: file.sha256 for name, file in sorted(locked.files.items()) if file.sha256 and hub.is_fetched(name)
    }
