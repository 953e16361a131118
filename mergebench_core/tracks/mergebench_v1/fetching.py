"""Brings the track to this machine: models through the Hub's cache, data prepared below home.

<home>/tracks/mergebench-v1/model_revisions.json  commits that were taken of models where no lock pins them
                            verified.json         state of the files whose content was compared with its digest
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from mergebench_core import hub
from mergebench_core.errors import CheckpointError
from mergebench_core.home import changed_note, read_note
from mergebench_core.hub_cache import is_listed, kept_digest
from mergebench_core.tracks.digests import file_digest
from mergebench_core.tracks.mergebench_v1.lock import Lock, LockedRepo, read_lock, telling_who_pins
from mergebench_core.tracks.mergebench_v1.preparation import prepare_data
from mergebench_core.tracks.track import HubBase, Track, TrackBase

SHA256_LETTERS = 64


def fetch(track: Track, base: HubBase, home: Path, progress: hub.Progress) -> Track:
    """Return the track with the models of `base` and all data on this machine.

    Raises:
        CheckpointError: a model cannot be fetched, is damaged, or differs from the lock.
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


def check_models(repos: Iterable[str], lock: Lock, home: Path, progress: hub.Progress) -> None:
    """Check before hours of fetching that all models may be fetched, and that there is room for them together.

    Raises:
        CheckpointError: a model cannot be fetched, or no room.
    """
    commits = {repo: pinned_commit(repo, lock, home) for repo in repos}
    absent = [repo for repo, commit in commits.items() if commit is None or hub.cached(repo, commit) is None]
    if not absent:
        return
    progress(f"models to fetch: {len(absent)}; asking for access and size")
    num_bytes = 0
    for repo in absent:
        with telling_who_pins(repo, lock, _commits_note(home)):
            num_bytes += hub.missing_bytes(repo, commits[repo])
    hub.check_room(f"{len(absent)} models", num_bytes)


def fetch_models(
    base: HubBase, lock: Lock, home: Path, progress: hub.Progress
) -> tuple[TrackBase, dict[str, str]]:
    """Fetch base and specialists, and return their folders and their commits by repository.

    Raises:
        CheckpointError: a model cannot be fetched, is damaged, differs from the lock, or lacks a chat template
            where it is asked in one.
    """
    folders: dict[str, Path] = {}
    commits: dict[str, str] = {}
    for name, model in base.hub_models.items():
        folders[name], commits[model.repo] = fetch_model(model.repo, model.revision, lock, home, progress)
    if base.prompt_format == "chat":
        for name, folder in folders.items():
            check_chat_template(folder, base.hub_models[name].repo)
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


def fetch_model(
    repo: str, revision: str | None, lock: Lock, home: Path, progress: hub.Progress
) -> tuple[Path, str]:
    """Fetch a model, check it, and return its folder and its commit.

    Without a revision it is the noted commit, else the latest, which is then noted. A revision that is not the
    lock's was named by whoever asks.

    Raises:
        CheckpointError: it cannot be fetched, is damaged, or differs from the lock.
    """
    is_named = revision not in (None, lock.revisions().get(repo))
    with contextlib.nullcontext() if is_named else telling_who_pins(repo, lock, _commits_note(home)):
        folder, commit = hub.fetch(repo, revision or _noted(home).get(repo), progress)
        if revision is None and (first := note_commit(repo, commit, home)) != commit:
            folder, commit = hub.fetch(repo, first, progress)
    locked = lock.repos.get(repo)
    if locked is None and hub.is_offline() and not is_listed(repo, commit):
        raise CheckpointError(
            f"model {repo}: the local cache has no list of its files, so it may hold only a part; "
            "unset HF_HUB_OFFLINE and fetch it once"
        )
    verify_model(folder, repo, locked, _room(home) / "verified.json", progress)
    return folder, commit


def check_chat_template(folder: Path, repo: str) -> None:
    """Check, before hours of scoring, that a model can be asked in a chat.

    Raises:
        CheckpointError: its tokenizer has no chat template.
    """
    config = folder / "tokenizer_config.json"
    has_own = config.is_file() and bool(json.loads(config.read_bytes()).get("chat_template"))
    if not has_own and not (folder / "chat_template.jinja").is_file():
        raise CheckpointError(
            f"{repo}: its tokenizer has no chat template, in which the safety tasks ask; its base cannot be scored"
        )


def pinned_commit(repo: str, lock: Lock, home: Path) -> str | None:
    """Return the commit of a model that the lock pins, else the noted one, else None."""
    return lock.revisions().get(repo) or _noted(home).get(repo)


def note_commit(repo: str, commit: str, home: Path) -> str:
    """Note the commit that is taken of a model from now on, and return it: another process may have been first."""
    with changed_note(_commits_note(home)) as noted:
        return noted.setdefault(repo, commit)


def verify_model(folder: Path, repo: str, locked: LockedRepo | None, note: Path, progress: hub.Progress) -> None:
    """Compare the files of a fetched model with the lock, else with what the cache says; once per file as it is.

    Raises:
        CheckpointError: a file is missing, damaged or not in the lock.
    """
    if locked and (unknown := sorted({path.name for path in folder.glob("*.safetensors")} - set(locked.files))):
        raise CheckpointError(f"{repo}: {unknown[0]} is not in the lock; delete {folder} and fetch again")
    seen = read_note(note)
    for name, digest in (_locked_digests(locked) if locked else _kept_digests(folder)).items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{repo}: {name} is missing in {folder}; unset HF_HUB_OFFLINE and fetch again")
        found = path.stat()
        state = f"{digest} {found.st_size} {found.st_mtime_ns}"
        if digest is None or seen.get(str(path)) == state:
            continue
        if len(digest) == SHA256_LETTERS:  # large files
            progress(f"verifying {repo}/{name}")
        if _digest(path, len(digest)) != digest:
            problem = "differs from the lock" if locked else "is damaged"
            raise CheckpointError(f"{repo}: {name} {problem}; delete {path.resolve()} and fetch again")
        with changed_note(note) as noted:
            noted[str(path)] = state


def _room(home: Path) -> Path:
    return home / "tracks" / "mergebench-v1"


def _commits_note(home: Path) -> Path:
    return _room(home) / "model_revisions.json"


def _noted(home: Path) -> dict[str, str]:
    return read_note(_commits_note(home))


def _locked_digests(locked: LockedRepo) -> dict[str, str | None]:
    """Return the digests of the files that are fetched, by name."""
    return {name: file.digest for name, file in sorted(locked.files.items()) if hub.is_fetched(name)}


def _kept_digests(folder: Path) -> dict[str, str | None]:
    """Return the digests under which the local cache keeps the files, by name."""
    return {path.name: kept_digest(path) for path in sorted(folder.iterdir()) if hub.is_fetched(path.name)}


def _digest(path: Path, num_letters: int) -> str:
    """Return the sha256 of a file, or git's id of it, which is shorter."""
    if num_letters == SHA256_LETTERS:
        return file_digest(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
