"""The track's judge: fetched with the models, taken at one commit, pinned by the lock."""

from __future__ import annotations

import json
import shutil

import pytest
from checkpoint_samples import random_tensors, write_checkpoint
from test_v1_fetching import REPOS, hub, models, refused, silent
from typer.testing import CliRunner

from mergebench_core.cli.main import app
from mergebench_core.evaluation.judges import choice, model_judge
from mergebench_core.evaluation.judges.registry import bundled_judges
from mergebench_core.home import changed_note, read_note
from mergebench_core.tracks.mergebench_v1 import fetching, lock
from mergebench_core.tracks.mergebench_v1.bases import find_base
from mergebench_core.tracks.mergebench_v1.lock import make_lock, write_lock
from mergebench_core.tracks.mergebench_v1.preparation import data_repos
from mergebench_core.tracks.registry import load_track
from mergebench_core.tracks.world import WorldOptions

__all__ = ["hub", "models"]
REPO = "allenai/wildguard"
WEIGHTS = "model.safetensors"


@pytest.fixture
def judge(models, tmp_path, monkeypatch):
    """The Hub with the default judge, on a machine with a GPU that loads nothing; its commit."""
    monkeypatch.setattr(model_judge, "find_device", lambda device: "cuda")
    monkeypatch.setattr(model_judge, "_generator", lambda folder, settings: None)
    return publish(models, tmp_path, "one")


def publish(models, tmp_path, text):
    folder = tmp_path / "judge" / text
    write_checkpoint(folder, random_tensors(5))
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text(text)
    return models.add("model", REPO, folder)


def opened(tmp_path, judge=None):
    track, found = choice.open_judge(
        load_track("mergebench-v1", WorldOptions(judge=judge)), tmp_path / "home", silent
    )
    assert found is not None
    assert track.judge == f"{found.name}@{found.revision}"
    return track


def note_in(tmp_path):
    return tmp_path / "home" / "tracks" / "mergebench-v1" / "model_revisions.json"


def use_lock(tmp_path, monkeypatch, repos):
    write_lock(tmp_path / "lock.json", make_lock([("model", repo) for repo in repos], silent))
    found = lock.read_lock(tmp_path / "lock.json")
    for module in (choice, fetching):
        monkeypatch.setattr(module, "read_lock", lambda: found)


def test_a_new_commit_of_the_judge_is_not_taken(models, judge, tmp_path):
    track = opened(tmp_path)
    assert track.judge == f"wildguard@{judge}"
    assert read_note(note_in(tmp_path)) == {REPO: judge}
    new = publish(models, tmp_path, "two")
    shutil.rmtree(tmp_path / "cache")
    assert opened(tmp_path).digest == track.digest
    assert opened(tmp_path, f"wildguard@{new}").judge == f"wildguard@{new}"
    assert read_note(note_in(tmp_path)) == {REPO: judge}


def test_the_lock_pins_the_judge(models, judge, tmp_path, monkeypatch):
    use_lock(tmp_path, monkeypatch, [REPO])
    new = publish(models, tmp_path, "two")
    with changed_note(note_in(tmp_path)) as noted:
        noted[REPO] = new
    assert opened(tmp_path).judge == f"wildguard@{judge}"
    assert opened(tmp_path, f"wildguard@{new}").judge == f"wildguard@{new}"  # asked for, so not the lock's files
    blob = next((tmp_path / "cache").glob(f"models--allenai--wildguard/snapshots/{judge}/{WEIGHTS}")).resolve()
    blob.write_bytes(blob.read_bytes()[:-1])
    assert refused(opened, tmp_path) == f"{REPO}: {WEIGHTS} differs from the lock; delete {blob} and fetch again"


def test_a_judge_whose_commit_is_gone(models, judge, tmp_path):
    with changed_note(note_in(tmp_path)) as noted:
        noted[REPO] = "b" * 40
    line = refused(opened, tmp_path)
    assert line.endswith(f"it is noted in {note_in(tmp_path)}: remove {REPO} there to take its latest commit")


def test_a_judge_s_revision_that_was_named_is_not_the_note_s(models, judge, tmp_path):
    line = refused(opened, tmp_path, "wildguard@v1.O")
    assert line.endswith("there is no such revision; leave @revision out or give a branch, tag or commit")


def test_without_a_gpu_nothing_is_fetched(models, judge, tmp_path, monkeypatch):
    monkeypatch.setattr(model_judge, "find_device", lambda device: "cpu")
    assert refused(opened, tmp_path).startswith("judge wildguard needs a GPU, and there is none")
    assert models.asked == []


# the command line


def run(*arguments):
    done = CliRunner().invoke(app, ["models", "fetch", "--base", "llama-3.2-3b", "--no-data", *arguments])
    return done, str(done.exception or "")


@pytest.fixture
def whole(models):
    """With all specialists of the base."""
    for model in find_base("llama-3.2-3b").hub_models.values():
        models.repos.setdefault(model.repo, models.repos[REPOS[1]])


def test_models_fetch_brings_the_judge(models, judge, whole, tmp_path, monkeypatch):
    from huggingface_hub import constants

    done, problem = run()
    assert (done.exit_code, problem) == (0, "")
    assert done.stdout == "mergebench-v1: llama-3.2-3b, judge wildguard complete\n"
    assert read_note(note_in(tmp_path))[REPO] == judge
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    num_asked = len(models.asked)
    assert opened(tmp_path).judge == f"wildguard@{judge}"
    assert run()[0].exit_code == 0
    assert len(models.asked) == num_asked


def test_terms_of_the_judge_are_asked_for_first(models, judge, whole):
    models.gated.add(REPO)
    _, problem = run()
    assert problem.startswith(f"model {REPO}: its authors want you to accept terms first")
    assert not [line for line in models.asked if line.startswith("GET /large/")]


def test_a_judge_without_a_model_needs_nothing(models, whole):
    done, problem = run("--judge", "refusal_phrases")
    assert (done.exit_code, problem) == (0, "")
    assert done.stdout == "mergebench-v1: llama-3.2-3b complete\n"
    assert "unknown judge 'refusals'" in run("--judge", "refusals")[1]


# the lock


def test_the_lock_holds_the_bundled_judges_that_score_the_track(hub, tmp_path):
    names = {factory.name for factory in bundled_judges()}
    assert names == {"wildguard", "harmbench_classifier", "refusal_phrases"}
    assert choice.judge_repos() == [REPO]
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    bases = load_track("mergebench-v1").bases.values()
    repos = [model.repo for base in bases for model in base.hub_models.values()]
    for repo in [*repos, REPO]:
        hub.add("model", repo, folder)
    for repo in data_repos():
        hub.add("dataset", repo, folder)
    out = tmp_path / "lock.json"
    done = CliRunner().invoke(app, ["track", "lock", "--out", str(out)])
    assert done.exit_code == 0, done.exception
    pinned = json.loads(out.read_text())["repos"]
    assert set(pinned) == {*repos, *data_repos(), REPO}
    assert pinned[REPO]["kind"] == "model"


@pytest.mark.parametrize(
    ("place", "reason"),
    [("", "it is a folder"), ("file/below", "File exists"), ("file/a/b", "Not a directory")],
)
def test_a_lock_that_cannot_be_written_is_refused_at_once(hub, tmp_path, place, reason):
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["track", "lock", "--out", str(tmp_path / place)])
    assert str(done.exception) == f"--out {tmp_path / place}: cannot be written ({reason}); name another file"
    assert hub.asked == []
