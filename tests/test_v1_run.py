"""Track mergebench-v1 from the command line to the board, on tiny models and made-up data from a Hub on loopback.

Only the endpoint and the number of items differ from a real run (small_v1.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_models import WIDE_DOMAIN
from hub_world import add_data, add_models
from loopback_hub import LoopbackHub
from small_v1 import SMALL_SETS

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.evaluation.items import read_rows
from mergebench_core.records import RunRecord
from mergebench_core.tracks.mergebench_v1.suite import tasks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PROGRAM = Path(__file__).parent / "small_v1.py"
LLAMA, GEMMA = "llama-3.2-3b", "gemma-2-2b"
CHOICES = ("--track", "mergebench-v1", "--suite", "lite", "--judge", "refusal_phrases", "--json")
SCORED = [task for task in tasks("lite") if task.purpose != "surrogate"]


class World:
    """The Hub, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.hub, self.folder = LoopbackHub(), folder
        for base in (LLAMA, GEMMA):
            add_models(self.hub, folder, base)
        add_data(self.hub, folder, SMALL_SETS.values())

    def mergebench(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        own = self.hub.environment(self.folder / "hf") | {"MERGEBENCH_HOME": str(self.folder / "home")}
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **own, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Built and served once."""
    found = World(tmp_path_factory.mktemp("world"))
    with found.hub.served():
        yield found


@pytest.fixture(scope="module")
def tuned(world):
    """Task arithmetic on the Llama base."""
    code, output, progress = world.mergebench("run", "task_arithmetic", "--base", LLAMA, *CHOICES, "--yes")
    assert code == 0, progress
    return json.loads(output), progress


def record_in(folder: str) -> RunRecord:
    return RunRecord.model_validate_json((Path(folder) / "record.json").read_text(encoding="utf-8"))


def test_a_run_goes_through_every_stage(tuned, world):
    found, progress = tuned
    record = record_in(found["folder"])
    assert record.status == "completed"
    assert list(record.tasks) == [task.name for task in SCORED]
    assert len(SCORED) == 12 + 6
    assert {task.domain for task in SCORED} == {"instruction", "math", "multilingual", "coding", "safety", None}
    assert len(record.configurations) == 10
    assert all(set(part.validation_scores) == set(part.domains) for part in record.configurations)
    assert "comparing weights taken in place" in progress
    assert len(list((world.folder / "home" / "runs").glob("*/record.json"))) == 7
    assert found["normalized"]["multilingual"] is not None


def test_the_record_names_the_world(tuned, world):
    record = record_in(tuned[0]["folder"])
    part = record.track
    assert (part.name, part.suite, part.protocol, part.engine) == ("mergebench-v1", "lite", "standard", "hf")
    assert part.judge is not None
    assert part.judge.startswith("refusal_phrases@")
    for repo in ("meta-llama/Llama-3.2-3B", "MergeBench/Llama-3.2-3B_math"):
        assert part.revisions[repo] == world.hub.commit_of("model", repo)
    assert part.revisions["google/IFEval"] == world.hub.commit_of("dataset", "google/IFEval")
    assert set(record.input_sha256) == {
        "base",
        *(f"specialist:{name}" for name in record.configurations[0].domains),
    }


def test_items_stand_behind_every_score(tuned):
    folder = Path(tuned[0]["folder"])
    for name, part in record_in(str(folder)).tasks.items():
        rows = read_rows(folder / part.items_file)
        assert len(rows) == part.num_items
        parts = {row.part for row in rows}
        means = [_mean([row.score for row in rows if row.part == one]) for one in sorted(parts)]
        assert part.score == pytest.approx(_mean(means)), name
        assert len(parts) == (4 if name in ("m_mmlu", "m_arc", "m_hellaswag") else 1)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_the_merge_has_the_base_s_vocabulary_though_a_specialist_has_more(tuned, world):
    weights = Checkpoint(Path(tuned[0]["folder"]) / "weights")
    wide = Checkpoint(world.folder / "models" / "MergeBench" / f"Llama-3.2-3B_{WIDE_DOMAIN}")
    base = Checkpoint(world.folder / "models" / "meta-llama" / "Llama-3.2-3B")
    name = "model.embed_tokens.weight"
    assert weights.entries[name].shape == base.entries[name].shape
    assert wide.entries[name].shape[0] > base.entries[name].shape[0]


def test_a_second_call_asks_nothing_of_the_hub_and_computes_nothing(tuned, world):
    asked = len(world.hub.asked)
    code, output, progress = world.mergebench(
        "run", "task_arithmetic", "--base", LLAMA, *CHOICES, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1"
    )
    assert code == 0, progress
    assert "done before" in progress
    assert json.loads(output)["job_id"] == tuned[0]["job_id"]
    assert len(world.hub.asked) == asked


def test_a_gemma_base_is_merged_and_ranked_beside_it(tuned, world):
    code, output, progress = world.mergebench("run", "model_soup", "--base", GEMMA, *CHOICES, "--yes")
    assert code == 0, progress
    assert json.loads(output)["status"] == "completed"
    code, output, _ = world.mergebench("results", "--track", "mergebench-v1", "--json")
    rows = [row for row in json.loads(output) if row["tier"] == "measured"]
    assert code == 0
    assert {(row["base_model"], row["label"]) for row in rows if row["kind"] == "merge"} == {
        (LLAMA, "task_arithmetic"),
        (GEMMA, "model_soup"),
    }
    assert sum(row["kind"] == "reference" for row in rows) == 12
