"""The lock of track mergebench-v1: made from a small Hub, read back, held against what was fetched."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from checkpoint_samples import random_tensors, write_checkpoint
from test_v1_fetching import BASE, NAMES, REPOS, fetched, hub, models, refused, silent

from mergebench_core.tracks.mergebench_v1.bases import bases
from mergebench_core.tracks.mergebench_v1.fetching import fetch_models
from mergebench_core.tracks.mergebench_v1.lock import Lock, make_lock, read_lock, write_lock

__all__ = ["hub", "models"]
FIRST = "model-00001-of-00002.safetensors"


def made() -> Lock:
    return make_lock([("model", repo) for repo in REPOS], silent)


def test_a_lock_is_made_and_read_back(models, tmp_path):
    lines: list[str] = []
    lock = make_lock([("model", repo) for repo in REPOS], lines.append)
    assert lines == [f"resolving {repo}" for repo in REPOS]
    assert lock.revisions() == {repo: models.commit_of("model", repo) for repo in REPOS}
    content = (models.repos[REPOS[0]] / FIRST).read_bytes()
    files = lock.repos[REPOS[0]].files
    assert files[FIRST].sha256 == hashlib.sha256(content).hexdigest()
    assert files[FIRST].num_bytes == len(content)
    assert files["config.json"].sha256 is None
    write_lock(tmp_path / "lock.json", lock)
    assert read_lock(tmp_path / "lock.json") == lock
    assert made() == lock


def test_no_lock_is_an_empty_one(tmp_path):
    assert read_lock(tmp_path / "lock.json") == Lock()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema_version": 2}',
        '{"more": 1}',
        '{"repos": {"a/b": {"kind": "model", "revision": "main", "files": {}}}}',
        '{"repos": {"a/b": {"kind": "space", "revision": "' + "a" * 40 + '", "files": {}}}}',
    ],
)
def test_damaged_locks(tmp_path, text):
    path = tmp_path / "lock.json"
    path.write_text(text)
    line = refused(read_lock, path)
    assert line.startswith(f"{path}: not a lock (")
    path.write_bytes(b"\xff\xfe")
    assert "not a lock" in refused(read_lock, path)


def test_a_lock_cannot_be_made_of_what_is_missing(models):
    del models.repos[REPOS[1]]
    assert refused(made).startswith(f"model {REPOS[1]}: no such")


def test_locked_revisions_are_fetched(models, tmp_path):
    lock = made()
    write_checkpoint(tmp_path / "changed", random_tensors(9))
    for repo in REPOS:
        models.add("model", repo, tmp_path / "changed")
    whole = bases(lock.revisions())[BASE.name]
    base = dataclasses.replace(whole, hub_models={name: whole.hub_models[name] for name in NAMES})
    _, commits = fetch_models(base, lock, tmp_path / "home", silent)
    assert commits == lock.revisions()
    assert made() != lock


def test_a_changed_file_is_found_once_it_changed(models, tmp_path):
    lock = made()
    local, _ = fetched(tmp_path / "home", lock)
    lines: list[str] = []
    fetch_models(BASE, lock, tmp_path / "home", lines.append)
    assert [line for line in lines if line.startswith("verifying")] == []
    path = (local.specialists["math"] / FIRST).resolve()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    line = refused(fetched, tmp_path / "home", lock)
    assert line == f"MergeBench/Llama-3.2-3B_math: {FIRST} differs from the lock; delete {path} and fetch again"
    path.unlink()
    (local.specialists["math"] / FIRST).unlink()
    assert fetched(tmp_path / "home", lock)[0] == local


def test_other_files_than_locked_are_refused(models, tmp_path):
    lock = made()
    write_checkpoint(tmp_path / "changed", random_tensors(9), num_shards=3)
    models.add("model", REPOS[0], tmp_path / "changed")
    assert "is not in the lock" in refused(fetched, tmp_path / "home", lock)
