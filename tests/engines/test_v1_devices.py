"""Every task of mergebench-v1 on a GPU and on the CPU, with the track's own settings. Needs a GPU."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tracks"))

from hub_models import write_models
from hub_world import made_rows
from mergebench_judges import refusal_phrases
from small_v1 import NUM_ROWS, SMALL_SETS

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.evaluation.engines.hf import HfEngine
from mergebench_core.evaluation.harness import Harness
from mergebench_core.evaluation.judges.factory import JudgeFactory, JudgeSettings
from mergebench_core.evaluation.session import Session
from mergebench_core.tracks.registry import load_track

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Made-up items of every set."""
    folder = tmp_path_factory.mktemp("items")
    for name, item_set in SMALL_SETS.items():
        found = item_set.adapt(*made_rows(item_set, max(NUM_ROWS, 4 * len(item_set.sources))))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in found))
    return folder


@pytest.mark.parametrize("base", ["llama-3.2-3b", "gemma-2-2b"])
def test_both_devices_score_alike(base, items, tmp_path):
    """A greedy token may flip with the last bits of bfloat16, a log-likelihood differ in the second decimal."""
    track = load_track("mergebench-v1")
    tasks = tuple(
        dataclasses.replace(task, num_items=sum(SMALL_SETS[name].num_items for name in task.part_names))
        for task in track.tasks
    )
    small = dataclasses.replace(track, tasks=tasks, items_folder=items)
    on_cpu = dataclasses.replace(small, evaluation=dataclasses.replace(small.evaluation, device="cpu"))
    folders = list(write_models(tmp_path, base).values())
    judges: list[JudgeFactory] = []
    refusal_phrases.mergebench_register_judges(judges.append)
    session = Session(judge=judges[0].open(JudgeSettings()), cache_folder=tmp_path / "references")
    engines = [HfEngine(folders[0], world.evaluation) for world in (small, on_cpu)]
    assert [str(engine.model.device.type) for engine in engines] == ["cuda", "cpu"]
    for engine in engines:
        engine.load(Checkpoint(folders[1]))
    gpu, cpu = (Harness(world, engine, session) for world, engine in zip((small, on_cpu), engines, strict=True))
    differing = {}
    for task in tasks:
        pairs = zip(gpu.score(task).rows, cpu.score(task).rows, strict=True)
        differing[task.name] = sum(a.score != b.score for a, b in pairs)
    assert sum(differing.values()) <= 0.05 * sum(task.num_items for task in tasks), differing
