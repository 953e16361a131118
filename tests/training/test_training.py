"""Training tiny models: checkpoints, resume, export, the multi-task model, GRPO, and the command."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from training_requests import NUM_STEPS, are_equal, interrupt_at, request_of, weights
from training_rows import ROWS, small_base
from typer.testing import CliRunner

from mergebench_core.cli.training import train as command
from mergebench_core.errors import InputError
from mergebench_core.training import runs, settings
from mergebench_core.training.export import export
from mergebench_core.training.plan import CHECKPOINTS, PLAN, RESULT
from mergebench_core.training.runs import train
from mergebench_core.training.trainers import last_checkpoint

pytestmark = pytest.mark.usefixtures("small_recipes")


def test_specialist_is_written_as_the_base_is(base, tmp_path, hub):
    told = []
    result = train(request_of(base, tmp_path / "out"), told.append)
    out = result.folder
    assert result.is_new
    before, after = weights(base.folder), weights(out)
    assert {name: (v.shape, v.dtype) for name, v in before.items()} == {
        name: (v.shape, v.dtype) for name, v in after.items()
    }
    assert not are_equal(before, after)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (base.folder / name).read_bytes()
    document = json.loads((out / RESULT).read_text())
    assert document == result.document
    assert (document["method"], document["domain"], document["num_steps_done"]) == ("sft", "coding", NUM_STEPS)
    assert document["recipe"]["learning_rate"] == 1e-5
    assert document["devices"]["num_accumulation_steps"] == 2
    assert document["num_examples"] == 4
    [part] = document["datasets"]
    assert part["repo"] == "ise-uiuc/Magicoder-Evol-Instruct-110K"
    assert part["difference"].startswith("Magicoder: 4 rows where the paper counts 110,000")
    assert {"torch", "transformers", "trl", "datasets"} <= document["packages"].keys()
    assert f"tiny coding: step {NUM_STEPS} of {NUM_STEPS}" in told
    assert not (out / CHECKPOINTS).exists()
    assert not (out / PLAN).exists()


def test_finished_training_is_not_done_again(base, tmp_path, hub):
    first = train(request_of(base, tmp_path / "out", num_steps=1), lambda _: None)
    hub.calls.clear()
    (tmp_path / "out" / PLAN).write_text("{}")  # as if killed before tidying up
    again = train(request_of(base, tmp_path / "out", num_steps=1), lambda _: None)
    assert (again.is_new, again.document, hub.calls) == (False, first.document, [])
    assert not (tmp_path / "out" / PLAN).exists()
    with pytest.raises(InputError, match=r"holds another training \(its seed is 0, not 3\)"):
        train(request_of(base, tmp_path / "out", num_steps=1, seed=3), lambda _: None)


def test_interrupted_training_goes_on_to_the_same_weights(base, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_LINES", 0.0)
    whole = train(request_of(base, tmp_path / "whole"), lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        train(request_of(base, tmp_path / "out"), interrupt_at(3))
    with pytest.raises(InputError, match=r"holds another training \(its domain is 'coding', not 'math'\)"):
        train(request_of(base, tmp_path / "out", domain="math"), lambda _: None)
    told = []
    resumed = train(request_of(base, tmp_path / "out"), told.append)
    assert "going on from checkpoint-2" in told
    assert not any("step 1 of" in line or "step 2 of" in line for line in told)
    assert are_equal(weights(whole.folder), weights(resumed.folder))
    assert whole.document == resumed.document


def test_a_training_whose_export_was_interrupted_only_exports(base, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_LINES", 0.0)

    def fail(trainer, start, folder):
        export(trainer, start, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "export", fail)
    with pytest.raises(KeyboardInterrupt):
        train(request_of(base, tmp_path / "out"), lambda _: None)
    first = weights(tmp_path / "out")
    monkeypatch.setattr(runs, "export", export)
    told = []
    train(request_of(base, tmp_path / "out"), told.append)
    assert not any("step" in line for line in told)
    assert are_equal(first, weights(tmp_path / "out"))


def test_an_unfinished_checkpoint_is_passed_over(tmp_path):
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-best", "export"):
        (tmp_path / name).mkdir()
    assert last_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert last_checkpoint(tmp_path / "none") is None


def test_foreign_folders_are_left_alone(base, tmp_path, hub):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match="is not empty and holds no training"):
        train(request_of(base, tmp_path / "full"), lambda _: None)
    with pytest.raises(InputError, match="is a file"):
        train(request_of(base, tmp_path / "full" / "thesis.tex"), lambda _: None)
    assert hub.calls == []


def test_multitask_model_sees_every_domain(base, tmp_path, hub):
    result = train(request_of(base, tmp_path / "out", domain="all", num_steps=1), lambda _: None)
    assert [(part["name"], part["num_examples"]) for part in result.document["datasets"]] == [
        ("tulu_3_persona_if", 6),
        ("dart_math", 8),
        ("aya", 4),
        ("magicoder", 4),
        ("wildguardmix", 2),
        ("wildjailbreak", 2),
    ]
    assert result.document["num_examples"] == 26
    other = train(request_of(base, tmp_path / "other", domain="all", num_steps=1, seed=1), lambda _: None)
    assert other.document["dataset_sha256"] != result.document["dataset_sha256"]


def test_two_epochs_are_the_default(base, tmp_path, hub):
    result = train(request_of(base, tmp_path / "out", num_steps=None), lambda _: None)
    assert result.document["num_steps_done"] == 2  # 4 examples, batches of 4, twice


def test_batch_that_does_not_divide_is_refused_before_any_data(base, tmp_path, hub):
    with pytest.raises(InputError, match="4 is no multiple of 3 per device"):
        train(request_of(base, tmp_path / "out", per_device_batch_size=3), lambda _: None)
    assert hub.calls == []


def test_grpo_goes_on_from_sft(tmp_path, hub, monkeypatch):
    small = replace(
        settings.GRPO, global_batch_size=4, num_generations=2, max_completion_length=8, learning_rate=1e-3
    )
    monkeypatch.setattr("mergebench_core.training.plan.GRPO", small)
    monkeypatch.setattr(runs, "answer_checker", lambda: lambda gold, answer: gold == answer)
    seen = []

    def alternating(completions, solution, **_):
        """A random model boxes nothing; equal rewards would leave it as it is."""
        seen.extend(solution)
        return [float(number % 2) for number in range(len(completions))]

    monkeypatch.setattr(runs, "answer_reward", lambda is_same: alternating)
    base = small_base(tmp_path / "base", size_b=8.0, dtype="float32")
    sft = train(request_of(base, tmp_path / "sft", domain="math", num_steps=1), lambda _: None)
    wanted = request_of(base, tmp_path / "out", domain="math", num_steps=2, method="grpo", sft=sft.folder)
    result = train(wanted, lambda _: None)
    assert result.document["sft_weights_sha256"] == sft.document["weights_sha256"]
    assert [part["name"] for part in result.document["datasets"]] == ["numina_math_tir"]
    assert result.document["num_examples"] == 4
    assert result.document["num_steps_done"] == 2
    assert len(seen) == 8
    assert all("boxed" in solution for solution in seen)
    assert not are_equal(weights(sft.folder), weights(result.folder))


KILLED = """
import os, sys
sys.path[:0] = [{tests!r}, {here!r}]
import datasets
from pathlib import Path
from dataclasses import replace
from training_rows import FakeHub
from mergebench_core.training import runs, settings
from mergebench_core.training.bases import StartingModel
from mergebench_core.training.plan import TrainingRequest

datasets.load_dataset = FakeHub()
runs.SECONDS_BETWEEN_LINES = 0.0
settings.SMALL = replace(settings.SMALL, global_batch_size=4, max_length=256)
base = StartingModel(given="tiny", repo=None, folder=Path({base!r}), size_b=3.0)
request = TrainingRequest(base=base, domain="coding", out=Path({out!r}), num_steps=4, num_steps_between_saves=2,
                          per_device_batch_size=2)
runs.train(request, lambda line: "step 3 of" in line and os.kill(os.getpid(), 9))
"""


@pytest.mark.slow
def test_killed_training_goes_on_to_the_same_weights(base, tmp_path, hub):
    here = Path(__file__).parent
    program = KILLED.format(
        tests=str(here.parent), here=str(here), base=str(base.folder), out=str(tmp_path / "out")
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    whole = train(request_of(base, tmp_path / "whole"), lambda _: None)
    resumed = train(request_of(base, tmp_path / "out"), lambda _: None)
    assert are_equal(weights(whole.folder), weights(resumed.folder))


def invoke(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_prints_differences_and_the_result(base, tmp_path, hub):
    wanted = ["--base", base.folder, "--domain", "coding", "--out", tmp_path / "out", "--per-device-batch", 4]
    done = invoke(*wanted, "--steps", 1)
    assert done.exit_code == 0, done.output
    printed = done.stdout.splitlines()
    assert printed[0].startswith("note: Magicoder: 4 rows where the paper counts 110,000")
    assert printed[1].startswith("weights sha256: ")
    assert printed[2] == f"trained model: {tmp_path / 'out'}"
    again = invoke(*wanted, "--steps", 1, "--json")
    assert json.loads(again.stdout) == json.loads((tmp_path / "out" / RESULT).read_text())


def test_command_prints_how_many_examples_are_left_out(base, tmp_path, hub, monkeypatch):
    rows = [{"instruction": "x" * length, "response": "y"} for length in (10, 500)]
    monkeypatch.setitem(ROWS, "ise-uiuc/Magicoder-Evol-Instruct-110K", rows)
    wanted = ["--base", base.folder, "--domain", "coding", "--out", tmp_path / "out", "--per-device-batch", 4]
    done = invoke(*wanted, "--steps", 1)
    assert "note: 1 of 2 examples left out: the prompt fills the 256 tokens" in done.stdout


def test_command_knows_the_bases_of_the_paper(tmp_path):
    done = invoke("--base", "llama-3.2-3b", "--domain", "math", "--method", "grpo", "--out", tmp_path / "out")
    assert isinstance(done.exception, InputError)
    assert "on the 8B and 9B models only, not at 3.2B" in str(done.exception)
    done = invoke("--base", "llama-3.2-3", "--domain", "math", "--out", tmp_path / "out")
    assert "did you mean 'llama-3.2-3b'" in str(done.exception)
