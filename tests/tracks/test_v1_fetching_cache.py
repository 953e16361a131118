"""Models in the local cache: a part is no whole, damaged files are found, what was cut off does not stay."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import os
import shutil
import time
from collections import namedtuple

import pytest
from checkpoint_samples import random_tensors, write_checkpoint
from test_v1_fetching import BASE, NAMES, REPOS, fetched, hub, large_files, models, refused, silent

from mergebench_core import hub as hub_room
from mergebench_core.errors import CheckpointError
from mergebench_core.home import changed_note, read_note
from mergebench_core.tracks.mergebench_v1.bases import bases
from mergebench_core.tracks.mergebench_v1.fetching import check_chat_template, check_models, fetch_models
from mergebench_core.tracks.mergebench_v1.lock import Lock, make_lock

__all__ = ["hub", "models"]
FIRST = "model-00001-of-00002.safetensors"
OFFLINE = "HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE"


def note_in(tmp_path):
    return tmp_path / "home" / "tracks" / "mergebench-v1" / "model_revisions.json"


def load(repo, *names):
    """Do what loading a part with transformers does: it leaves no list of the repository's files."""
    from huggingface_hub import hf_hub_download

    for name in names:
        hf_hub_download(repo, name)


def locked(models):
    lock = make_lock([("model", repo) for repo in REPOS], silent)
    found = bases(lock.revisions())[BASE.name]
    return lock, dataclasses.replace(found, hub_models={name: found.hub_models[name] for name in NAMES})


def go_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


# chat templates


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
def test_models_that_are_asked_in_a_chat_have_a_template(tmp_path, place):
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": null}')
    with pytest.raises(CheckpointError, match=r"^a/b: its tokenizer has no chat template"):
        check_chat_template(tmp_path, "a/b")
    (tmp_path / place).write_text('{"chat_template": "{{ messages }}"}')
    check_chat_template(tmp_path, "a/b")


def test_a_chat_base_is_refused_before_it_is_scored(models, tmp_path):
    """The tiny models are those of a pretrained base; asked in a chat they lack a template."""
    asked_in_chat = dataclasses.replace(BASE, prompt_format="chat")
    with pytest.raises(CheckpointError, match="no chat template"):
        fetch_models(asked_in_chat, Lock(), tmp_path / "home", silent)


# parts


def test_a_part_of_a_model_is_no_whole(models):
    commit = models.commit_of("model", REPOS[0])
    load(REPOS[0], "config.json")
    assert hub_room.cached(REPOS[0], commit) is None
    assert hub_room.cached(REPOS[0], None) is None
    folder, _ = hub_room.fetch(REPOS[0], commit, silent)
    assert {path.name for path in folder.iterdir()} == {path.name for path in models.repos[REPOS[0]].iterdir()}
    assert hub_room.cached(REPOS[0], commit) == folder


def test_a_specialist_without_its_tokenizer_gets_it(models, tmp_path):
    names = [path.name for path in models.repos[REPOS[2]].iterdir() if path.name != "tokenizer.json"]
    load(REPOS[2], *names)
    lock, base = locked(models)
    local, _ = fetch_models(base, lock, tmp_path / "home", silent)
    assert (local.specialists["math"] / "tokenizer.json").is_file()
    shutil.rmtree(tmp_path / "cache")
    load(REPOS[2], *names)
    with changed_note(note_in(tmp_path)) as noted:
        noted[REPOS[2]] = models.commit_of("model", REPOS[2])
    assert (fetched(tmp_path / "home")[0].specialists["math"] / "tokenizer.json").is_file()


def test_offline_the_lock_tells_what_a_part_lacks(models, tmp_path, monkeypatch):
    lock, base = locked(models)
    load(REPOS[0], *(path.name for path in models.repos[REPOS[0]].iterdir() if path.name != "tokenizer.json"))
    go_offline(monkeypatch)
    line = refused(fetch_models, base, lock, tmp_path / "home", silent)
    assert line.startswith(f"{REPOS[0]}: tokenizer.json is missing in {tmp_path}")
    assert line.endswith("; unset HF_HUB_OFFLINE and fetch again")


def test_offline_without_a_lock_an_unlisted_model_is_refused(models, tmp_path, monkeypatch):
    load(REPOS[0], *(path.name for path in models.repos[REPOS[0]].iterdir()))
    go_offline(monkeypatch)
    line = refused(fetched, tmp_path / "home")
    assert line.startswith(
        f"model {REPOS[0]}: the local cache has no list of its files, so it may hold only a part"
    )
    assert "unset HF_HUB_OFFLINE" in line


def test_offline_the_cache_tells_what_is_missing(models, tmp_path, monkeypatch):
    local, commits = fetched(tmp_path / "home")
    go_offline(monkeypatch)
    (local.path / "tokenizer.json").unlink()
    line = refused(fetched, tmp_path / "home")
    assert line == f"model {REPOS[0]}@{commits[REPOS[0]]}, tokenizer.json: not in the local cache, and {OFFLINE}"
    (local.path / FIRST).unlink()
    assert f"{commits[REPOS[0]]}, {FIRST} and 1 more: not in" in refused(fetched, tmp_path / "home")


def test_a_part_is_no_whole_if_the_hub_lists_nothing(models, tmp_path, monkeypatch):
    load(REPOS[0], "config.json")
    commit = models.commit_of("model", REPOS[0])
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the Hub refuses the token" in refused(hub_room.fetch, REPOS[0], commit, silent)


def test_a_cache_that_takes_no_list_is_compared_with_the_hub(models, monkeypatch):
    """So is one that cannot be written: another's, whole."""
    from huggingface_hub import _snapshot_download

    commit = models.commit_of("model", REPOS[0])
    load(REPOS[0], *(path.name for path in models.repos[REPOS[0]].iterdir()))
    monkeypatch.setattr(_snapshot_download, "write_tree_cache", lambda *given: None)
    folder, _ = hub_room.fetch(REPOS[0], commit, silent)
    assert folder.name == commit
    assert hub_room.cached(REPOS[0], commit) is None


# damage


def damage(path, num_bytes=None):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content[:num_bytes])


@pytest.mark.parametrize("name", [FIRST, "tokenizer.json"])
@pytest.mark.parametrize("num_bytes", [None, 1])
def test_damaged_files_are_found_without_a_lock(models, tmp_path, name, num_bytes):
    local, _ = fetched(tmp_path / "home")
    blob = (local.specialists["math"] / name).resolve()
    damage(blob, num_bytes)
    line = refused(fetched, tmp_path / "home")
    assert line == f"{REPOS[2]}: {name} is damaged; delete {blob} and fetch again"
    blob.unlink()
    assert fetched(tmp_path / "home")[0] == local


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_files_kept_in_git_are_held_against_the_lock(models, tmp_path, name):
    lock, base = locked(models)
    content = (models.repos[REPOS[0]] / name).read_bytes()
    git_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert (lock.repos[REPOS[0]].files[name].sha256, lock.repos[REPOS[0]].files[name].blob_id) == (None, git_id)
    assert lock.repos[REPOS[0]].files[FIRST].blob_id is None
    local, _ = fetch_models(base, lock, tmp_path / "home", silent)
    blob = (local.path / name).resolve()
    blob.write_text('{"model_type": "other"}')
    line = refused(fetch_models, base, lock, tmp_path / "home", silent)
    assert line == f"{REPOS[0]}: {name} differs from the lock; delete {blob} and fetch again"
    blob.unlink()
    assert fetch_models(base, lock, tmp_path / "home", silent)[0] == local


def test_files_are_read_once(models, tmp_path):
    lines: list[str] = []
    fetch_models(BASE, Lock(), tmp_path / "home", lines.append)
    told = [line for line in lines if line.startswith("verifying")]
    assert f"verifying {REPOS[0]}/{FIRST}" in told
    assert len(told) == len(set(told)) == 6  # the large ones
    lines.clear()
    fetch_models(BASE, Lock(), tmp_path / "home", lines.append)
    assert lines == []


def test_files_that_are_no_links_are_taken_as_they_are(models, tmp_path):
    """As where the cache's disk knows no links."""
    local, _ = fetched(tmp_path / "home")
    path = local.path / FIRST
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b"x")
    fetched(tmp_path / "home")


# what was cut off


def cut_off(models, tmp_path, *, age_s=3600.0):
    """Leave what a killed download leaves, and return it with its lock."""
    name = f"models--{REPOS[0].replace('/', '--')}"
    part = tmp_path / "cache" / name / "blobs" / f"{'a' * 64}.12345678.incomplete"
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"x" * 100)
    os.utime(part, (time.time() - age_s, time.time() - age_s))
    lock = tmp_path / "cache" / ".locks" / name / f"{'a' * 64}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    return part, lock


def test_what_was_cut_off_does_not_stay(models, tmp_path):
    part, _ = cut_off(models, tmp_path)
    fetched(tmp_path / "home")
    assert not part.exists()
    part, lock = cut_off(models, tmp_path)
    lock.unlink()
    fetched(tmp_path / "home")
    assert not part.exists()


def test_what_another_process_fetches_stays(models, tmp_path):
    part, lock = cut_off(models, tmp_path)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fetched(tmp_path / "home")
    assert part.exists()
    part, _ = cut_off(models, tmp_path, age_s=60)  # a disk on which locks mean nothing
    fetched(tmp_path / "home")
    assert part.exists()


# commits


def test_commits_of_parallel_fetches_are_all_noted(models, tmp_path):
    """The first commit that is noted of a model is taken by all."""
    one, two = (dataclasses.replace(BASE, hub_models={"base": BASE.hub_models[name]}) for name in NAMES[:2])
    first = models.commit_of("model", REPOS[0])

    def meanwhile(line):
        if not note_in(tmp_path).is_file() and line.startswith("fetching"):
            fetch_models(two, Lock(), tmp_path / "home", silent)
            fetch_models(one, Lock(), tmp_path / "home", silent)
            write_checkpoint(tmp_path / "changed", random_tensors(9))
            models.add("model", REPOS[0], tmp_path / "changed")

    local, commits = fetch_models(one, Lock(), tmp_path / "home", meanwhile)
    assert commits == {REPOS[0]: first}
    assert local.path.name == first
    assert read_note(note_in(tmp_path)) == {REPOS[0]: first, REPOS[1]: models.commit_of("model", REPOS[1])}


def test_commits_that_are_gone(models, tmp_path):
    with changed_note(note_in(tmp_path)) as noted:
        noted[REPOS[0]] = "b" * 40
    gone = f"model {REPOS[0]}@{'b' * 40}: there is no such revision; "
    line = refused(fetched, tmp_path / "home")
    assert line == f"{gone}it is noted in {note_in(tmp_path)}: remove {REPOS[0]} there to take its latest commit"
    assert refused(check_models, REPOS, Lock(), tmp_path / "home", silent) == line
    lock, base = locked(models)
    models.earlier.clear()
    for repo in REPOS:
        write_checkpoint(tmp_path / "changed" / repo, random_tensors(9))
        models.add("model", repo, tmp_path / "changed" / repo)
    models.earlier.clear()
    line = refused(fetch_models, base, lock, tmp_path / "another", silent)
    assert line.endswith(
        "there is no such revision; it is pinned by the lock, which no longer fits the Hub: update mergebench"
    )
    line = refused(hub_room.fetch, REPOS[0], "v9", silent)
    assert line.endswith("@v9: there is no such revision; leave @revision out or give a branch, tag or commit")


# access and room, for all models together


def test_room_is_checked_for_all_models_together(models, tmp_path, monkeypatch):
    sizes = {repo: hub_room.missing_bytes(repo, None) for repo in REPOS}
    assert min(sizes.values()) > 0
    usage = namedtuple("usage", "total used free")
    free = hub_room.SPARE_BYTES + sum(sizes.values())
    with monkeypatch.context() as patch:
        patch.setattr(hub_room.shutil, "disk_usage", lambda folder: usage(2**40, 2**40 - free, free))
        check_models(REPOS, Lock(), tmp_path / "home", silent)
        free -= 1
        line = refused(check_models, REPOS, Lock(), tmp_path / "home", silent)
    assert line.startswith("3 models: 0.0 GiB to fetch and 1.0 GiB free in ")
    fetched(tmp_path / "home")
    assert large_files(models)
    models.asked.clear()
    check_models(REPOS, Lock(), tmp_path / "home", silent)
    assert models.asked == []


def test_terms_are_asked_for_before_anything_is_fetched(models, tmp_path):
    models.gated.add(REPOS[2])
    line = refused(check_models, REPOS, Lock(), tmp_path / "home", silent)
    assert line.startswith(
        f"model {REPOS[2]}: its authors want you to accept terms first: do so at {models.url}/{REPOS[2]}, "
    )
    assert large_files(models) == []


def test_a_missing_model_is_told_before_anything_is_fetched(models, tmp_path):
    del models.repos[REPOS[2]]
    line = refused(check_models, REPOS, Lock(), tmp_path / "home", silent)
    assert line.startswith(f"model {REPOS[2]}: no such folder here and no such repository at {models.url}")


def test_terms_of_data_sets_have_their_address(models, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("{}")
    commit = models.add("dataset", "owner/rows", folder)
    models.gated.add("owner/rows")

    def ask():
        with hub_room.one_line("data set owner/rows", ValueError):
            hub_room.check_access("dataset", "owner/rows", commit)

    with pytest.raises(ValueError, match=f"do so at {models.url}/datasets/owner/rows, then"):
        ask()


def test_a_token_that_cannot_be_one(models, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_é")
    line = refused(fetched, tmp_path / "home")
    assert line == f"model {REPOS[0]}: the token holds a character that no token has; check HF_TOKEN"
