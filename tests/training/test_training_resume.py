"""Going on with an interrupted training: commits that moved meanwhile, and who may write into the folder."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from training_requests import are_equal, interrupt_at, request_of, weights

from mergebench_core.errors import InputError
from mergebench_core.training import bases, loading, runs
from mergebench_core.training.bases import StartingModel
from mergebench_core.training.devices import Devices
from mergebench_core.training.folder import LOCK, lock
from mergebench_core.training.plan import CHECKPOINTS, PLAN
from mergebench_core.training.runs import train
from mergebench_core.training.trainers import last_checkpoint

pytestmark = pytest.mark.usefixtures("small_recipes")
OLD, NEW = "a" * 40, "b" * 40
REPO = "meta-llama/Llama-3.2-3B"
ON_HUB = StartingModel(given=REPO, repo=REPO, size_b=3.0)


@pytest.fixture
def main(base, monkeypatch):
    """The commit of every repository's main branch; models at any commit are the small base."""
    branch = SimpleNamespace(commit=OLD, fetched=[])

    def fetch(repo, revision, progress):
        branch.fetched.append(revision)
        return base.folder, revision or branch.commit

    monkeypatch.setattr(bases, "fetch", fetch)
    monkeypatch.setattr(loading, "_commit", lambda repo: branch.commit)
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_LINES", 0.0)
    return branch


def interrupted(out, main, **changes):
    """Interrupt a training whose base and data then move on."""
    with pytest.raises(KeyboardInterrupt):
        train(request_of(ON_HUB, out, **changes), interrupt_at(3))
    main.commit = NEW


@pytest.mark.parametrize("revision", [None, OLD])
def test_a_training_goes_on_with_the_commits_that_it_began_with(main, base, tmp_path, hub, revision):
    whole = train(request_of(ON_HUB, tmp_path / "whole"), lambda _: None)
    interrupted(tmp_path / "out", main)
    hub.calls.clear()
    wanted = request_of(replace(ON_HUB, revision=revision), tmp_path / "out")
    told = []
    resumed = train(wanted, told.append)
    assert "going on from checkpoint-2" in told
    assert main.fetched[-1] == OLD
    assert [settings["revision"] for _, _, settings in hub.calls] == [OLD]
    assert are_equal(weights(whole.folder), weights(resumed.folder))
    assert whole.document == resumed.document
    assert train(wanted, told.append).document == resumed.document


def test_another_commit_or_base_is_another_training(main, tmp_path, hub):
    interrupted(tmp_path / "out", main)
    main.fetched.clear()
    with pytest.raises(InputError, match=f"another training .its base_revision is None, not '{NEW}'"):
        train(request_of(replace(ON_HUB, revision=NEW), tmp_path / "out"), lambda _: None)
    with pytest.raises(InputError, match=r"another training .its base is 'meta-llama/Llama-3\.2-3B', not 'a/b'"):
        train(request_of(replace(ON_HUB, repo="a/b"), tmp_path / "out"), lambda _: None)
    assert main.fetched == []


def test_every_data_set_keeps_its_commit(main, tmp_path, hub):
    interrupted(tmp_path / "out", main, domain="all")
    hub.calls.clear()
    result = train(request_of(ON_HUB, tmp_path / "out", domain="all"), lambda _: None)
    assert [settings["revision"] for _, _, settings in hub.calls] == [OLD] * 6
    assert [part["revision"] for part in result.document["datasets"]] == [OLD] * 6
    assert "dataset_revisions" not in result.document


def test_data_without_a_known_commit_are_asked_for_again(main, tmp_path, hub):
    main.commit = None
    with pytest.raises(KeyboardInterrupt):
        train(request_of(replace(ON_HUB, revision=OLD), tmp_path / "out"), interrupt_at(3))
    main.commit = NEW
    result = train(request_of(replace(ON_HUB, revision=OLD), tmp_path / "out"), lambda _: None)
    assert [part["revision"] for part in result.document["datasets"]] == [NEW]


def test_other_data_are_refused_all_the_same(main, tmp_path, hub):
    interrupted(tmp_path / "out", main)
    plan = json.loads((tmp_path / "out" / PLAN).read_text())
    (tmp_path / "out" / PLAN).write_text(json.dumps({**plan, "dataset_sha256": "0" * 64}))
    with pytest.raises(InputError, match=r"another training .its dataset_sha256 is '0000"):
        train(request_of(ON_HUB, tmp_path / "out"), lambda _: None)


def test_a_checkpoint_whose_state_was_cut_off_is_passed_over(tmp_path):
    for step, state in ((2, "{}"), (4, '{"epoch": 1'), (6, "")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_an_unfinished_checkpoint_is_removed_before_it_is_taken_for_the_newest(main, tmp_path, hub):
    interrupted(tmp_path / "out", main)
    checkpoints = tmp_path / "out" / CHECKPOINTS
    (checkpoints / "checkpoint-9").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(request_of(ON_HUB, tmp_path / "out"), interrupt_at(3))
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-2"]


def test_the_same_command_twice_at_once_is_refused(base, tmp_path, hub):
    wanted = request_of(base, tmp_path / "out", num_steps=1)
    refused = []

    def start_again(line):
        with pytest.raises(InputError, match="another process is training into it; wait for it"):
            train(wanted, lambda _: None)
        refused.append(line)

    result = train(wanted, start_again)
    assert any("step 1 of 1" in line for line in refused)
    assert result.is_new
    assert not (tmp_path / "out" / LOCK).exists()


def test_the_lock_of_a_killed_training_is_no_obstacle(base, tmp_path, hub):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).touch()
    assert train(request_of(base, tmp_path / "out", num_steps=1), lambda _: None).is_new
    assert not (tmp_path / "out" / LOCK).exists()


def test_a_lock_whose_file_is_gone_holds_nothing(tmp_path, monkeypatch):
    """Its holder removes the file, and a third process makes another, before this one locks it."""
    monkeypatch.setattr("fcntl.flock", lambda file, operation: (tmp_path / LOCK).unlink())
    with pytest.raises(InputError, match="another process is training into it"), lock(tmp_path):
        pass


def test_processes_of_one_launch_share_the_folder(base, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(runs, "find_devices", lambda: Devices(is_main=False))
    with lock(tmp_path / "out"):
        assert train(request_of(base, tmp_path / "out", num_steps=1), lambda _: None).is_new
