"""The resident model and the harness around lm-eval, on the toy track."""

from __future__ import annotations

import dataclasses

import pytest

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import CheckpointError, InputError
from mergebench_core.evaluation.engines.hf import HfEngine
from mergebench_core.evaluation.harness import Harness, ItemRow
from mergebench_core.evaluation.items import read_rows, write_rows


@pytest.fixture(scope="module")
def base(toy_track):
    return toy_track.bases["toy-untied"]


@pytest.fixture(scope="module")
def resident(toy_track, base):
    return HfEngine(base.path, toy_track.evaluation)


@pytest.fixture(scope="module")
def harness(toy_track, resident):
    return Harness(toy_track, resident)


def test_loading_a_specialist_in_place_is_loading_it_from_disk(toy_track, base, resident):
    import torch

    resident.load(Checkpoint(base.specialists["math"]))
    fresh = HfEngine(base.specialists["math"], toy_track.evaluation)
    tokens = resident.tokenizer("toy 1?", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(resident.model(**tokens).logits, fresh.model(**tokens).logits)


def test_a_tied_model_moves_its_head_with_its_embeddings(toy_track):
    import torch

    tied = toy_track.bases["toy-tied"]
    resident, fresh = (
        HfEngine(tied.path, toy_track.evaluation),
        HfEngine(tied.specialists["math"], toy_track.evaluation),
    )
    assert "lm_head.weight" not in Checkpoint(tied.path).names
    resident.load(Checkpoint(tied.specialists["math"]))
    assert torch.equal(resident.model.lm_head.weight, fresh.model.lm_head.weight)


def test_scores_are_those_of_lm_eval(toy_track, base, resident, harness):
    """The harness adds up items by itself; lm-eval's own aggregate must agree."""
    from lm_eval import evaluator

    task = toy_track.tasks_for("test")[0]
    resident.load(Checkpoint(base.specialists["math"]))
    result = harness.score(task)
    theirs = evaluator.evaluate(
        lm=resident.language_model(), task_dict=harness._loaded[task.name], bootstrap_iters=0
    )
    assert result.score == pytest.approx(theirs["results"][task.name]["acc,none"])
    assert [row.doc_id for row in result.rows] == list(range(task.num_items))
    assert {row.score for row in result.rows} <= {0.0, 1.0}


def test_other_weights_other_answers_and_back(toy_track, base, resident, harness):
    task = toy_track.tasks_for("test")[1]
    resident.load(Checkpoint(base.path))
    first = harness.score(task)
    resident.load(Checkpoint(base.specialists["coding"]))
    assert harness.score(task).rows != first.rows
    resident.load(Checkpoint(base.path))
    assert harness.score(task) == first


def test_another_number_of_items_is_refused(toy_track, harness):
    task = dataclasses.replace(toy_track.tasks_for("test")[0], num_items=7)
    with pytest.raises(InputError, match="gave 8 items, the track says 7"):
        harness.score(task)


def test_rows_survive_the_file(tmp_path):
    rows = tuple(
        ItemRow(doc_id=i, item_id=f"i{i}", cluster="ü", prompt_sha256="0" * 64, output="a\nb", score=i / 2)
        for i in range(3)
    )
    digest = write_rows(tmp_path / "items" / "x.parquet", rows)
    assert tuple(read_rows(tmp_path / "items" / "x.parquet")) == rows
    assert write_rows(tmp_path / "again.parquet", rows) == digest
    assert [path.name for path in (tmp_path / "items").iterdir()] == ["x.parquet"]


def test_a_folder_that_is_no_model_is_refused(toy_track, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be loaded as a causal language model"):
        HfEngine(tmp_path, toy_track.evaluation)
