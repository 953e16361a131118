"""Prepared data that were changed are made anew; a full disk and commits that are gone are one line."""

from __future__ import annotations

import errno
import os

import pytest
from hub_world import file_content
from test_v1_fetching import FILE, GSM8K, data, hub, prepared, refused

from mergebench_core.home import changed_note, read_note
from mergebench_core.tracks.mergebench_v1.lock import Lock
from mergebench_core.tracks.mergebench_v1.published_files import fetch_file, read_rows

__all__ = ["data", "hub"]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["items/gsm8k.jsonl", "calibration/math.jsonl"])
@pytest.mark.parametrize("change", ["cut", "altered", "gone"])
def test_prepared_data_that_were_changed_are_made_anew(data, tmp_path, name, change):
    found = prepared(tmp_path / "home")
    path = found.folder / name
    content = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-20] if change == "cut" else content.replace(b"1", b"2", 1))
    lines: list[str] = []
    assert prepared(tmp_path / "home", lines) == found
    assert path.read_bytes() == content
    kind, _, file = name.partition("/")
    assert lines == [f"preparing {kind} {file.removesuffix('.jsonl')}"]


def test_prepared_data_are_noted(data, tmp_path):
    found = prepared(tmp_path / "home")
    assert read_note(found.folder / "digests.json") == found.digests
    (found.folder / "digests.json").unlink()
    lines: list[str] = []
    assert prepared(tmp_path / "home", lines) == found
    assert len(lines) == len(found.digests)


def test_no_room_for_prepared_data(data, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    line = refused(prepared, tmp_path / "home")
    assert line.endswith(
        "cannot be written (No space left on device); free some room, or choose another folder (--home or --out)"
    )


def test_no_room_for_a_file(hub, tmp_path, monkeypatch):
    hub.files[f"{FILE.repo}/{FILE.path}"] = file_content([{"a": 1}], FILE.path)
    monkeypatch.setattr(os, "fsync", full)
    line = refused(fetch_file, FILE, tmp_path)
    assert line.endswith(
        "cannot be written (No space left on device); free some room, or choose another folder (--home or --out)"
    )
    assert list(tmp_path.glob("*.jsonl")) == []


def test_a_noted_commit_that_is_gone(data, tmp_path):
    note = tmp_path / "home" / "tracks" / "mergebench-v1" / "revisions.json"
    with changed_note(note) as noted:
        noted["openai/gsm8k"] = "b" * 40
    gone = "data set openai/gsm8k/main/test: there is no such revision; "
    assert refused(prepared, tmp_path / "home") == (
        f"{gone}it is noted in {note}: remove openai/gsm8k there to take its latest commit"
    )
    lock = Lock.model_validate({"repos": {"openai/gsm8k": {"kind": "dataset", "revision": "b" * 40, "files": {}}}})
    assert refused(prepared, tmp_path / "home", None, lock) == (
        f"{gone}it is pinned by the lock, which no longer fits the Hub: update mergebench"
    )


def test_a_token_that_cannot_be_one(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_é")
    commit = data.commit_of("dataset", "openai/gsm8k")
    assert "the token holds a character that no token has" in refused(read_rows, GSM8K, commit, tmp_path)
