"""Files below home: whole or not at all, notes of several processes together, and a full disk in one line."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from mergebench_core.errors import InputError, StoreError
from mergebench_core.home import changed_note, read_note, write_atomic


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def count(path: Path, name: str) -> None:
    for number in range(20):
        with changed_note(path) as note:
            note[f"{name}{number}"] = name


def test_texts_and_bytes_are_written_whole(tmp_path):
    for content in ("é\n", b"\xff\x00"):
        write_atomic(tmp_path / "new" / "file", content)
        assert (tmp_path / "new" / "file").read_bytes() == (
            content.encode() if isinstance(content, str) else content
        )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError) as error:
        write_atomic(path, "after")
    assert str(error.value) == (
        f"{path}: cannot be written (No space left on device); "
        "free some room, or choose another folder (--home or --out)"
    )
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "before"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written \(Not a directory\); choose another folder"):
        write_atomic(tmp_path / "file" / "below" / "it", "text")
    with pytest.raises(OSError, match="cannot be written"):  # for those to whom the file only saves time
        write_atomic(tmp_path / "file" / "below" / "it", "text")


def test_notes_are_read_back(tmp_path):
    path = tmp_path / "room" / "note.json"
    assert read_note(path) == {}
    with changed_note(path) as note:
        note["a"] = "1"
    with changed_note(path) as note:
        assert note == {"a": "1"}
        note["b"] = "2"
    assert read_note(path) == {"a": "1", "b": "2"}
    assert path.read_text() == '{\n "a": "1",\n "b": "2"\n}\n'


def test_a_note_that_stays_the_same_is_not_written(tmp_path):
    path = tmp_path / "note.json"
    with changed_note(path) as note:
        note["a"] = "1"
    before = path.stat().st_mtime_ns, path.stat().st_ino
    with changed_note(path) as note:
        note["a"] = "1"
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


@pytest.mark.parametrize("content", ['["what"', '["what"]', '{"a": 1}', "\udcff"])
def test_damaged_notes_are_named(tmp_path, content):
    path = tmp_path / "note.json"
    path.write_text(content, errors="surrogateescape")
    for act in (lambda: read_note(path), lambda: changed_note(path).__enter__()):
        with pytest.raises(InputError) as error:
            act()
        assert str(error.value) == f"{path}: damaged; delete it, it is made anew"


def test_notes_of_several_processes_are_all_kept(tmp_path):
    path = tmp_path / "note.json"
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=count, args=(path, name)) for name in "abc"]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert len(read_note(path)) == 60


def test_a_note_on_a_full_disk_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="free some room"), changed_note(tmp_path / "note.json") as note:
        note["a"] = "1"
