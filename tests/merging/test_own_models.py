"""`mergebench merge`: anybody's models, from folder to folder, as transformers loads them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from checkpoint_samples import EMBED, HEAD, MERGED, NORM, UP, random_tensors, write_checkpoint

from mergebench_core import api
from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.errors import MergebenchError

pytestmark = pytest.mark.usefixtures("known_catalog")
PLUGIN = Path(__file__).parent / "merge_plugin.py"


@pytest.fixture
def models(tmp_path) -> Path:
    """A folder with a base and two models fine-tuned from it, with configuration and tokenizer."""
    base = random_tensors(0)
    for seed, name in enumerate(("base", "math", "code")):
        noise = random_tensors(seed)
        values = {key: value + (0.05 * noise[key] if seed else 0) for key, value in base.items()}
        write_model(tmp_path / "models" / name, values)
    return tmp_path / "models"


def write_model(folder: Path, tensors, **layout) -> Path:
    write_checkpoint(folder, tensors, **layout)
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 11}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def load(folder: Path) -> dict[str, torch.Tensor]:
    return {name: Checkpoint(folder).tensor(name).clone() for name in Checkpoint(folder).names}


def merge(models: Path, out: Path, method: str = "model_soup", **changes):
    names = changes.pop("names", ("math", "code"))
    return api.merge(
        method, **({"base": models / "base", "specialists": {n: models / n for n in names}, "out": out} | changes)
    )


def refusal(models: Path, out: Path, method: str = "model_soup", **changes) -> str:
    with pytest.raises(MergebenchError) as error:
        merge(models, out, method, **changes)
    assert "\n" not in str(error.value)
    assert not list(out.parent.glob(f".{out.name}*"))
    return str(error.value)


def test_values_layout_and_recipe(models, tmp_path):
    """The mean of two specialists, worked out here; everything else is the base's."""
    base, math, code = (load(models / name) for name in ("base", "math", "code"))
    write_model(models / "base", base, num_shards=2)
    (models / "base" / "model.safetensors").unlink()
    (models / "base" / "chat_template.jinja").write_text("{{ messages }}")
    out = tmp_path / "out"
    result = merge(models, out)
    merged = load(out)
    for name in base:
        b, m, c = (tensors[name].float() for tensors in (base, math, code))
        expected = (b + ((c - b) + (m - b)) / 2).to(torch.bfloat16) if name in MERGED else base[name]
        assert torch.equal(merged[name], expected), name
    assert result.is_new
    assert result.weights_sha256 == weights_sha256(Checkpoint(out))
    assert list(Checkpoint(out).headers) == list(Checkpoint(models / "base").headers)
    shards = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    beside = {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"}
    assert {path.name for path in out.iterdir()} == shards | beside | {"README.md", "mergebench_recipe.json"}
    recipe = json.loads((out / "mergebench_recipe.json").read_text())
    assert recipe == result.recipe
    assert recipe["left_out"] == [name for name in Checkpoint(models / "base").names if name in (EMBED, HEAD)]
    for label, model in recipe["models"].items():
        folder = models / (label.partition(":")[2] or "base")
        assert model["weights_sha256"] == weights_sha256(Checkpoint(folder))
    assert recipe["warnings"] == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_card_is_valid_front_matter_and_repeats_the_merge(models, tmp_path):
    import yaml

    result = merge(models, tmp_path / "out", "task_arithmetic", settings={"scaling_coefficient": 0.25}, seed=3)
    text = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front == {
        "base_model": ["base", "code", "math"],
        "base_model_relation": "merge",
        "library_name": "transformers",
        "tags": ["merge", "mergebench"],
    }
    for word in (
        result.weights_sha256,
        "scaling_coefficient=0.25",
        "arxiv.org/abs/2212.04089",
        EMBED,
        "- seed: 3",
    ):
        assert word in text
    command = shlex.split(result.recipe["command"])
    assert command[:3] == ["mergebench", "merge", "task_arithmetic"]
    command[-1] = str(tmp_path / "again")
    assert run_cli(*command[1:]) == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "out" / "model.safetensors"
    ).read_bytes()


def run_cli(*arguments: str | Path) -> int:
    from test_cli import run_cli as run

    return run(*arguments)


def test_one_specialist_of_any_name(models, tmp_path):
    result = merge(models, tmp_path / "out", specialists={"my-2nd_one": models / "math"})
    assert all(torch.equal(load(tmp_path / "out")[name], load(models / "math")[name]) for name in MERGED)
    assert list(result.recipe["models"]) == ["base", "specialist:my-2nd_one"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "task_aritmetic"}, "did you mean 'task_arithmetic'"),
        ({"settings": {"scale": 1}}, "unknown hyper-parameter 'scale'"),
        ({"settings": {"density": 0}}, "'density' of ties is 0"),
        ({"settings": {"density": "much"}}, "'density' of ties is 'much'"),
        ({"settings": {"scaling_coefficient": "nan"}}, "give a number"),
        ({"specialists": {}}, "give at least one --specialist"),
        ({"specialists": {"Math": "x"}}, "--specialist Math: name a domain with"),
        ({"specialists": {"../x": "x"}}, "name a domain with"),
        ({"samples": {"math": "x.jsonl"}}, "reads no calibration samples"),
        ({"samples": {"law": "x.jsonl"}}, "no specialist has this domain"),
    ],
)
def test_mistakes_are_told_before_any_model_is_read(tmp_path, changes, words):
    """The models are not even there."""
    method = changes.pop("method", "ties")
    assert words in refusal(tmp_path / "gone", tmp_path / "out", method, **changes)


def test_command_line_mistakes(tmp_path, capsys):
    from test_cli import error_line

    start = ("merge", "model_soup", "--base", "b", "--out", tmp_path / "out")
    assert "write --specialist math=PATH" in error_line(capsys, *start, "--specialist", "math")
    assert "'math' is given twice" in error_line(
        capsys, *start, "--specialist", "math=a", "--specialist", "math=b"
    )
    assert "--specialist" in error_line(capsys, *start)
    assert "write --set name=value" in error_line(capsys, *start, "--specialist", "m=a", "--set", "density")


def test_same_merge_again_and_another_in_its_place(models, tmp_path):
    out = tmp_path / "out"
    first = merge(models, out)
    written = (out / "model.safetensors").stat().st_mtime_ns
    assert not merge(models, out).is_new
    (models / "math" / "config.json").touch()  # the same weights, but who knows that without reading them
    assert not merge(models, out).is_new
    assert (out / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(MergebenchError, match="not empty; give a new folder, or --force"):
        merge(models, out, names=("math",))
    assert weights_sha256(Checkpoint(out)) == first.weights_sha256
    second = merge(models, out, names=("math",), force=True)
    assert second.is_new
    assert weights_sha256(Checkpoint(out)) == second.weights_sha256 != first.weights_sha256
    assert {path.name for path in tmp_path.iterdir()} >= {"models", "out"}


def test_folders_that_are_not_for_writing(models, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    assert "not empty" in refusal(models, tmp_path / "full")
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal(models, tmp_path / "file")
    for out in (models / "math", models, tmp_path):
        assert "holds" in refusal(models, out, force=True)
    merge(models, tmp_path / "full", force=True)
    assert not (tmp_path / "full" / "thesis.txt").exists()


def test_disk_too_small(models, tmp_path, monkeypatch):
    from types import SimpleNamespace

    asked = []

    def usage(path):
        asked.append(path)
        return SimpleNamespace(free=1000)

    monkeypatch.setattr("shutil.disk_usage", usage)
    assert "the disk has 0.0 GiB free" in refusal(models, tmp_path / "new" / "out")
    assert asked == [tmp_path]


def test_untuned_hyperparameters_are_told(models, tmp_path, capsys):
    arguments = ["merge", "ties", "--base", models / "base", "--specialist", f"math={models / 'math'}"]
    assert run_cli(*arguments, "--out", tmp_path / "out", "--set", "density=0.5") == 0
    captured = capsys.readouterr()
    assert "configuration: density=0.5" in captured.out
    assert "(not tuned: scaling_coefficient; choose with --set)" in captured.out
    assert "merging: 100%" in captured.err
    assert run_cli(*arguments, "--out", tmp_path / "out", "--set", "density=0.5", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "there already"
    assert document["weights_sha256"] == weights_sha256(Checkpoint(tmp_path / "out"))


def test_methods_that_need_validation_while_merging_are_refused(models, tmp_path):
    with pytest.raises(MergebenchError, match="has no tasks to score them on") as error:
        merge(models, tmp_path / "out", "searching", plugin=PLUGIN)
    assert error.value.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_calibration_samples(models, tmp_path):
    files = {name: tmp_path / f"{name}.jsonl" for name in ("math", "code")}
    for name, file in files.items():
        rows = [{"prompt": "ab", "completion": name}] * (60 if name == "math" else 1)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    result = merge(models, out, "calibrated", plugin=PLUGIN, samples=files)
    assert result.recipe["calibration_samples"] == {"code": 1, "math": 60}
    assert torch.equal(load(out)[NORM], (load(models / "base")[NORM].float() + 122).bfloat16())
    other = tmp_path / "other"
    needed = {"plugin": PLUGIN, "method": "calibrated"}
    assert "give --samples code=FILE.jsonl" in refusal(models, other, samples={"math": files["math"]}, **needed)
    files["code"].write_text('{"prompt": "a"}\n')
    assert "code.jsonl, line 1: give {" in refusal(models, other, samples=files, **needed)
    files["code"].write_text("\n")
    assert "no rows" in refusal(models, other, samples=files, **needed)
    assert "cannot be read" in refusal(models, other, samples={**files, "code": tmp_path / "gone"}, **needed)


def start(models: Path, out: Path, flag: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "mergebench_core", "merge", "slow_mean", "--plugin", str(PLUGIN)),
            *("--base", str(models / "base"), "--specialist", f"math={models / 'math'}"),
            *("--specialist", f"code={models / 'code'}", "--out", str(out), "--set", f"flag={flag}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_merge_goes_on(models, tmp_path, ending):
    """Killed after some tensors: the next one starts after them, and nothing tells that it was killed."""
    out, flag = tmp_path / "out", models / "base" / "flags" / "slow"  # where the worker can see it
    flag.parent.mkdir()
    flag.touch()
    process = start(models, out, flag)
    journal = tmp_path / ".out.merging" / "finished.jsonl"
    while process.poll() is None and not (journal.is_file() and journal.read_text().count("\n") >= 2):
        time.sleep(0.01)
    os.kill(process.pid, ending)
    process.communicate()
    assert process.returncode == (-signal.SIGKILL if ending == signal.SIGKILL else 130)
    assert not out.exists()
    before = journal.read_text().splitlines()
    flag.unlink()
    lines: list[str] = []
    result = merge(models, out, "slow_mean", plugin=PLUGIN, settings={"flag": str(flag)}, progress=lines.append)
    assert "going on with an interrupted merge" in lines
    assert 2 <= len(before) < len(MERGED)
    whole = merge(models, tmp_path / "whole", "model_soup")
    assert result.weights_sha256 == whole.weights_sha256 == weights_sha256(Checkpoint(out))
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert not journal.parent.exists()


def test_what_another_merge_left_is_not_taken(models, tmp_path):
    """Another configuration, or a model that was changed meanwhile, starts anew."""
    from mergebench_core.merging.target import MergeTarget

    target = MergeTarget(tmp_path / "out")
    with target.lock():
        target.begin("another merge")
        target.note_finished(NORM, "0" * 64)
    lines: list[str] = []
    merge(models, tmp_path / "out", progress=lines.append)
    assert "going on with an interrupted merge" not in lines


def test_damaged_left_over_is_merged_again(models, tmp_path):
    """A power cut may keep the note of a tensor and lose its bytes: what is kept is compared first."""
    whole = merge(models, tmp_path / "whole")
    calls = []

    def stop_late(line: str) -> None:
        calls.append(line)
        if line.startswith("merging: 100%"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(models, tmp_path / "out", progress=stop_late)
    file = tmp_path / ".out.merging" / ".model.partial" / "model.safetensors"
    entry = Checkpoint(models / "base").entry(UP)
    with file.open("r+b") as stream:
        stream.seek(entry.start)
        stream.write(bytes(8))
    assert merge(models, tmp_path / "out").weights_sha256 == whole.weights_sha256


def test_two_at_once(models, tmp_path):
    from mergebench_core.merging.target import MergeTarget

    with MergeTarget(tmp_path / "out").lock(), pytest.raises(MergebenchError, match="another process is merging"):
        merge(models, tmp_path / "out")


def test_output_that_is_not_finite_names_the_method(models, tmp_path):
    with pytest.raises(
        MergebenchError, match=r"method 'exploding' .* of the merged model holds NaN or inf"
    ) as error:
        merge(models, tmp_path / "out", "exploding", plugin=PLUGIN)
    assert error.value.exit_code == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["toy-untied", "toy-tied"])
def test_transformers_loads_what_the_command_wrote(toy_track, tmp_path, name):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = toy_track.bases[name].path.parent
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mergebench_core", "merge", "task_arithmetic", "--base", str(folder / "base")),
            *("--specialist", f"maths={folder / 'math'}", "--specialist", f"code={folder / 'coding'}"),
            *("--set", "scaling_coefficient=0.5", "--out", str(tmp_path / "out"), "--threads", "2"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    models = {
        key: AutoModelForCausalLM.from_pretrained(path).state_dict()
        for key, path in {"out": tmp_path / "out", **{k: folder / k for k in ("base", "math", "coding")}}.items()
    }
    for key, value in models["out"].items():
        base = models["base"][key]
        update = (models["coding"][key] - base) + (models["math"][key] - base)
        is_kept = "embed" in key or "lm_head" in key
        assert torch.equal(value, base if is_kept else base + update * 0.5), key
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("hi")["input_ids"]
