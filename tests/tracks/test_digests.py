"""Digests of tracks and of their files."""

import dataclasses

import pytest

from mergebench_core.errors import InputError
from mergebench_core.tracks.digests import file_digests, verify_files
from mergebench_core.tracks.track import EvaluationSettings, Task, Track, TrackBase, track_digest

SHA_OF_A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def make_track(folder, **changes):
    base = TrackBase(
        name="b",
        title="B",
        family="llama",
        path=folder / "models" / "base",
        specialists={"math": folder / "models" / "math"},
        references={},
    )
    task = Task(name="t", title="T", purpose="test", domain="math", metric="acc,none", num_items=3)
    fields = {
        "name": "toy",
        "title": "Toy",
        "domains": ("math",),
        "bases": {"b": base},
        "tasks": (task,),
        "task_folder": folder / "tasks",
        "calibration_folder": folder / "calibration",
        "num_calibration_samples": 5,
        "max_validations": 35,
        "evaluation": EvaluationSettings(batch_size=2, max_length=8, num_threads=1),
        "file_digests": {"tasks/a.txt": SHA_OF_A},
        "folder": folder,
    }
    return Track(**{**fields, **changes})


@pytest.fixture
def track(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.txt").write_text("a")
    return make_track(tmp_path)


def test_file_digests_are_relative_and_sorted(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("b.txt", "a.txt", "inner/c.txt", "skipped.py"):
        (tmp_path / name).write_text("a")
    digests = file_digests(tmp_path, ["*.txt", "inner/*.txt"])
    assert list(digests) == ["a.txt", "b.txt", "inner/c.txt"]
    assert set(digests.values()) == {SHA_OF_A}


def test_digest_ignores_titles_and_place(track, tmp_path):
    moved = make_track(tmp_path / "elsewhere")
    renamed = dataclasses.replace(track, title="Another title")
    assert track.digest == track_digest(track) == moved.digest == renamed.digest
    assert len(track.digest) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"num_calibration_samples": 6},
        {"max_validations": 36},
        {"evaluation": EvaluationSettings(batch_size=3, max_length=8, num_threads=1)},
        {"evaluation": EvaluationSettings(batch_size=2, max_length=9, num_threads=1)},
        {"evaluation": EvaluationSettings(batch_size=2, max_length=8, num_threads=2)},
        {"file_digests": {"tasks/a.txt": "0" * 64}},
        {"tasks": ()},
        {"bases": {}},
        {"domains": ("math", "safety")},
    ],
)
def test_digest_covers_what_moves_a_score(track, changes):
    assert dataclasses.replace(track, **changes).digest != track.digest


@pytest.mark.parametrize("changes", [{"metric": "acc,graded"}, {"num_items": 4}, {"chance": 0.5}, {"name": "u"}])
def test_digest_covers_tasks(track, changes):
    tasks = (dataclasses.replace(track.tasks[0], **changes),)
    assert dataclasses.replace(track, tasks=tasks).digest != track.digest


def test_verify_accepts_untouched_files(track):
    verify_files(track)
    verify_files(track, ["tasks/a.txt"])
    verify_files(track, ["tasks"])


def test_verify_names_a_changed_file(track):
    (track.folder / "tasks" / "a.txt").write_text("b")
    with pytest.raises(InputError, match=r"tasks/a\.txt differs from its digest\. Reinstall"):
        verify_files(track)


def test_verify_names_a_missing_file(track):
    (track.folder / "tasks" / "a.txt").unlink()
    with pytest.raises(InputError, match=r"tasks/a\.txt is missing"):
        verify_files(track)


def test_verify_refuses_a_file_without_digest(track):
    (track.folder / "tasks" / "b.txt").write_text("b")
    with pytest.raises(InputError, match=r"tasks/b\.txt has no pinned digest"):
        verify_files(track, ["tasks/b.txt"])
