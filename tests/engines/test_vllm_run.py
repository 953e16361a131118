"""A whole run on the engine vllm: search, parking while a method prepares, the winner's file, test tasks."""

from __future__ import annotations

import dataclasses

import pytest

from mergebench_core.runner import run_method
from mergebench_core.workbench import Workbench
from mergebench_core.worker.catalog import find_method


@pytest.fixture
def records(vllm, toy_track, catalog, tmp_path, monkeypatch):
    """Run one method on both engines."""
    monkeypatch.setattr("mergebench_core.evaluation.engines.vllm.require_vllm", lambda: None)
    tasks = tuple(task for task in toy_track.tasks if task.purpose == "surrogate" or task.domain == "math")
    found = {}
    for engine in ("hf", "vllm"):
        track = dataclasses.replace(toy_track, engine=engine, tasks=tasks)
        bench = Workbench(track=track, base="toy-tied", home=tmp_path / engine, progress=lambda line: None)
        found[engine] = run_method(bench, find_method(catalog, "task_arithmetic"))
        bench.close()
    return found


@pytest.mark.slow
def test_a_search_and_its_winner_are_those_of_transformers(records, vllm, tmp_path):
    ours, theirs = records["vllm"], records["hf"]
    assert ours.status == theirs.status == "completed"
    assert [part.validation_scores for part in ours.configurations] == [
        part.validation_scores for part in theirs.configurations
    ]
    assert ours.weights_sha256 == theirs.weights_sha256
    assert {name: part.score for name, part in ours.tasks.items()} == {
        name: part.score for name, part in theirs.tasks.items()
    }
    assert len(vllm.ENGINES[-1].paths) >= len(ours.configurations)
    assert list((tmp_path / "vllm" / "work").iterdir()) == []
