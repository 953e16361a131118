"""The engine on vLLM, from end to end on a stand-in for the package: lm-eval's own wrapper is between them."""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import os
import shutil
from types import SimpleNamespace

import pytest
import tiny_llama
import torch

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import CheckpointError, EngineError, InputError, RunError
from mergebench_core.evaluation.engines.comparison import PROMPTS, differences, fingerprint
from mergebench_core.evaluation.engines.vllm import VllmEngine
from mergebench_core.evaluation.engines.weight_folders import WeightFolders
from mergebench_core.evaluation.harness import Harness

BASES = ("toy-untied", "toy-tied")
SAME = 1e-4
"""Nats between one and the same model padded in batches and alone."""


@pytest.fixture(params=BASES)
def base(request, toy_track):
    return toy_track.bases[request.param]


@pytest.fixture
def untied(toy_track):
    return toy_track.bases["toy-untied"]


def marks(engine):
    return fingerprint(engine.language_model(), PROMPTS[:2])


def folders(tmp_path):
    return sorted(path.name for path in tmp_path.glob("vllm-*/weights/*"))


def test_scores_in_place_are_those_of_transformers(toy_track, base, start):
    engine, reference = start(base.path), start(base.path, name="hf")
    ours, theirs = Harness(toy_track, engine), Harness(toy_track, reference)
    task = toy_track.tasks_for("test")[0]
    for place in (base.path, base.specialists["math"]):
        engine.load(Checkpoint(place))
        reference.load(Checkpoint(place))
        found, expected = ours.score(task), theirs.score(task)
        assert [row.score for row in found.rows] == [row.score for row in expected.rows]
        assert [row.prompt_sha256 for row in found.rows] == [row.prompt_sha256 for row in expected.rows]
        assert differences(marks(engine), marks(reference), SAME) == []


def test_a_merge_written_in_pieces_is_that_of_transformers(untied, start):
    engine, reference = start(untied.path), start(untied.path, name="hf")
    engine.language_model()
    name, other = "model.layers.1.mlp.down_proj.weight", "model.norm.weight"
    values = torch.linspace(-1, 1, 100)
    for one in (engine, reference):
        one.copy(Checkpoint(untied.specialists["math"]), Checkpoint(untied.specialists["math"]).entry(other))
        one.write(name, 0, values[:40])
        one.write(name, 200, values[40:])  # what lies between keeps its values
        one.write(name, 10, values[:5])
    assert differences(marks(engine), marks(reference), SAME) == []
    for one in (engine, reference):  # a second candidate: what the first one wrote stays
        one.write(other, 3, values[:2])
    assert differences(marks(engine), marks(reference), SAME) == []


def test_parked_weights_come_back(base, start, vllm):
    engine = start(base.path)
    engine.park()  # nothing to park yet
    engine.load(Checkpoint(base.specialists["coding"]))
    before = marks(engine)
    engine.park()
    engine.park()
    with pytest.raises(RuntimeError, match="asleep"):
        vllm.ENGINES[-1].generate([{"prompt_token_ids": [1]}], [vllm.SamplingParams()])
    assert marks(engine) == before
    engine.write("model.norm.weight", 0, torch.zeros(16))
    changed = marks(engine)
    engine.park()
    assert marks(engine) == changed != before


def test_no_path_twice_and_no_folder_too_many(untied, start, vllm, tmp_path):
    engine = start(untied.path)
    engine.language_model()
    for number in range(3):
        engine.write("model.norm.weight", 0, torch.full((16,), float(number)))
        engine.language_model()
        engine.language_model()
        assert len(folders(tmp_path)) == 1
        engine.park()
        engine.language_model()
        assert len(folders(tmp_path)) == 1
    engine.load(Checkpoint(untied.path))
    engine.language_model()
    assert folders(tmp_path) == []
    engine.write("model.norm.weight", 0, torch.zeros(4))
    engine.load(Checkpoint(untied.path))
    assert folders(tmp_path) == []
    paths = vllm.ENGINES[-1].paths
    assert len(paths) == len(set(paths)) == 7
    engine.close()
    assert not vllm.ENGINES[-1].is_alive
    assert list(tmp_path.glob("vllm-*")) == []
    assert Checkpoint(untied.path).names  # links were removed, not what they led to


def test_a_base_in_shards_and_a_checkpoint_in_one_file(untied, start, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "sharded"
    shutil.copytree(untied.path, folder)
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(untied.path).save_pretrained(folder, max_shard_size="20KB")
    assert len(Checkpoint(folder).headers) > 1
    both = tmp_path / "both"
    shutil.copytree(untied.specialists["math"], both)
    shutil.copy(folder / "model.safetensors.index.json", both)  # left there by somebody; the one file counts
    engine, reference = start(folder), start(untied.path)
    math = Checkpoint(both)
    for step in (lambda one: one.copy(math, math.entry("model.norm.weight")), lambda one: one.load(math)):
        for one in (engine, reference):
            step(one)
        assert marks(engine) == marks(reference)
    engine.load(Checkpoint(folder))
    reference.load(Checkpoint(untied.path))
    assert marks(engine) == marks(reference)


def test_loading_in_place_is_starting_anew(base, start):
    engine, fresh = start(base.path), start(base.specialists["math"])
    engine.language_model()
    math = Checkpoint(base.specialists["math"])
    for entry in math.entries.values():
        engine.copy(math, entry)
    assert differences(marks(engine), marks(fresh), 0.0) == []


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.k_proj.weight", "model.embed_tokens.weight", "model.norm.weight"]
)
def test_a_skipped_tensor_is_noticed(base, start, monkeypatch, name):
    engine, fresh = start(base.path), start(base.specialists["math"])
    engine.language_model()
    write = WeightFolders.write
    monkeypatch.setattr(WeightFolders, "write", lambda self, one, *rest: one == name or write(self, one, *rest))
    math = Checkpoint(base.specialists["math"])
    for entry in math.entries.values():
        engine.copy(math, entry)
    assert differences(marks(engine), marks(fresh), 1e-2)


def test_a_stale_prefix_cache_would_be_noticed(untied, start, vllm, monkeypatch):
    """The engine switches the cache off and resets it as well; without either, old keys answer for new weights."""
    engine, fresh = start(untied.path), start(untied.specialists["math"])
    engine.language_model()
    llm = vllm.ENGINES[-1]
    llm._is_caching = True
    marks(engine)
    engine.load(Checkpoint(untied.specialists["math"]))
    assert differences(marks(engine), marks(fresh), 0.0) == []
    engine.load(Checkpoint(untied.path))
    marks(engine)
    monkeypatch.setattr(llm, "reset_prefix_cache", lambda: True)
    engine.load(Checkpoint(untied.specialists["math"]))
    assert any("is continued with" in line for line in differences(marks(engine), marks(fresh), 0.0))
    monkeypatch.setattr(llm, "reset_prefix_cache", lambda: False)
    engine.load(Checkpoint(untied.path))
    with pytest.raises(EngineError, match="kept results"):
        engine.language_model()


def test_a_path_used_twice_would_be_noticed(untied, start, monkeypatch):
    engine, fresh = start(untied.path), start(untied.specialists["math"])

    def same(self, kind):
        shutil.rmtree(self._root / "same", ignore_errors=True)
        return self._root / "same"

    monkeypatch.setattr(WeightFolders, "_next", same)
    engine.language_model()
    engine.load(Checkpoint(untied.specialists["coding"]))
    engine.language_model()
    engine.load(Checkpoint(untied.specialists["math"]))
    assert differences(marks(engine), marks(fresh), 1e-2)


def test_repeats_differ_and_runs_repeat(untied, start, generate):
    engine = start(untied.path)
    prompts = ["one", "two", "one", "one"]
    sampled = {"do_sample": True, "temperature": 1.0, "top_p": 0.95, "top_k": 0}
    first = generate(engine.language_model(), prompts, **sampled)
    assert len(set(first)) == 4
    generate(engine.language_model(), ["another"], **sampled)
    assert generate(engine.language_model(), prompts, **sampled) == first
    assert generate(start(untied.path).language_model(), prompts, **sampled) == first


def test_stops_are_those_of_transformers(untied, start, generate):
    """Without a word on sampling, too: vLLM's default is to sample."""
    engine, reference = start(untied.path), start(untied.path, name="hf")
    prompts = [f"{letter} tells" for letter in "abcd"]
    for until in ([], ["e", "\n"]):
        found = [
            generate(one.language_model(), prompts, until=until, max_gen_toks=24) for one in (engine, reference)
        ]
        assert found[0] == found[1]


def test_special_tokens_in_an_answer_are_left_out(untied, start, generate):
    engine, reference = start(untied.path), start(untied.path, name="hf")
    tokens = reference.tokenizer("a tells", return_tensors="pt")
    with torch.no_grad():
        likeliest = int(reference.model(**tokens).logits[0, -1].argmax())
    row = 1.5 * Checkpoint(untied.path).tensor("lm_head.weight")[likeliest]
    for one in (engine, reference):
        one.write("lm_head.weight", len(row) * reference.tokenizer.bos_token_id, row)
    found = [generate(one.language_model(), ["a tells"], max_gen_toks=6)[0] for one in (engine, reference)]
    assert found[0] == found[1]
    assert "<s>" not in found[0]
    raw = reference.model.generate(**tokens, max_new_tokens=6, do_sample=False)[0]
    assert reference.tokenizer.bos_token_id in raw[tokens["input_ids"].shape[1] :]


def test_a_tokenizer_that_adds_no_first_token_is_left_alone(toy_track, start, tmp_path):
    """vLLM's own loading would add one, and score another prompt than transformers does."""
    tiny_llama.save_model(tmp_path / "model", tiny_llama.tiny_llama(3))
    engine, reference = start(tmp_path / "model"), start(tmp_path / "model", name="hf")
    assert engine.language_model().tok_encode("hi") == reference.language_model().tok_encode("hi")
    assert differences(marks(engine), marks(reference), SAME) == []


@pytest.mark.parametrize("name", ["hf", "vllm"])
def test_long_prompts_are_refused_or_cut(untied, toy_track, start, generate, name):
    engine = start(untied.path, name=name)
    prompts = ["x" * 56 + "ab"]
    with pytest.raises(InputError, match="a prompt has 59 tokens where the track has room for 56"):
        generate(engine.language_model(), prompts)
    settings = dataclasses.replace(toy_track.evaluation, truncates=True)
    cut = start(untied.path, settings, name)
    beginning = generate(cut.language_model(), ["y" * 20 + "x" * 54 + "ab"])
    assert beginning == generate(cut.language_model(), ["x" * 54 + "ab"])  # 56 tokens, the first one cut too


def test_what_does_not_fit_is_refused(untied, toy_track, start):
    engine = start(untied.path)
    other = Checkpoint(toy_track.bases["toy-tied"].path)
    with pytest.raises(CheckpointError, match=r"has no tensor 'lm_head.weight', which the base has"):
        engine.load(other)
    entry = dataclasses.replace(other.entry("model.norm.weight"), name="model.other.weight")
    with pytest.raises(CheckpointError, match=r"tensor 'model.other.weight' is unknown to the base"):
        engine.copy(other, entry)
    with pytest.raises(CheckpointError, match=r"has shape \[4\], the base's has \[16\]"):
        engine.copy(other, dataclasses.replace(other.entry("model.norm.weight"), shape=(4,)))


def test_not_installed_or_no_gpu_is_one_line(untied, toy_track, tmp_path, vllm, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(InputError, match="needs a GPU"):
            VllmEngine(untied.path, toy_track.evaluation, tmp_path)
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(InputError, match=r"not installed.*constraints-gpu\.txt"):
            VllmEngine(untied.path, toy_track.evaluation, tmp_path)
    assert list(tmp_path.glob("vllm-*")) == []


@pytest.mark.parametrize("text", ["none", "0", "1.2", "nan"])
def test_a_fraction_that_is_none_is_refused(untied, start, monkeypatch, text):
    monkeypatch.setenv("MERGEBENCH_GPU_MEMORY_FRACTION", text)
    with pytest.raises(InputError, match="give a number above 0 and at most 1"):
        start(untied.path)


def test_the_fraction_reaches_vllm(untied, start, vllm, monkeypatch):
    monkeypatch.setenv("MERGEBENCH_GPU_MEMORY_FRACTION", "0.4")
    start(untied.path).language_model()
    assert vllm.ENGINES[-1].settings == {"dtype": "auto", "seed": 0, "gpu_memory_utilization": 0.4}


def test_vllm_that_does_not_start_is_one_line(untied, start, vllm, monkeypatch):
    """Its process tells the reason only to its output, and the caller that it should look there."""

    def fails(self, **settings):
        os.write(1, b"ERROR [core.py:1] ValueError: Free memory on device (3.0 GiB) is\t less than desired\n")
        raise RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")

    engine = start(untied.path)
    with monkeypatch.context() as patch:
        patch.setattr(vllm.LLM, "__init__", fails)
        with pytest.raises(InputError) as caught:
            engine.language_model()
    text = str(caught.value)
    assert "does not start (ValueError: Free memory on device (3.0 GiB) is less than desired)" in text
    assert "set MERGEBENCH_GPU_MEMORY_FRACTION (now 0.9)" in text
    assert "\n" not in text
    assert engine.language_model().tok_encode("a")


def test_a_model_longer_than_its_positions_is_one_line(untied, toy_track, start):
    engine = start(untied.path, dataclasses.replace(toy_track.evaluation, max_length=65))
    with pytest.raises(InputError, match=r"does not start \(User-specified max_model_len.*try the engine hf"):
        engine.language_model()


def test_a_full_disk_is_one_line(untied, start, monkeypatch):
    engine = start(untied.path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(InputError, match=r"GiB are free; make room there"):
            engine.write("model.norm.weight", 0, torch.zeros(16))
    engine.write("model.norm.weight", 0, torch.zeros(16))


def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(untied, start, monkeypatch):
    engine, fresh = start(untied.path), start(untied.path)
    for one in (engine, fresh):
        one.write("model.norm.weight", 0, torch.full((16,), 0.5))

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(InputError, match=r"cannot be written \(No space left on device\); make room there"):
            engine.write("model.norm.weight", 0, torch.zeros(16))
        with pytest.raises(InputError, match="No space left on device"):
            engine.language_model()
    assert marks(engine) == marks(fresh)


def test_vllm_that_dies_is_started_again(base, start, vllm, monkeypatch, generate):
    engine, fresh = start(base.path), start(base.specialists["math"])
    engine.language_model()
    with monkeypatch.context() as patch:
        patch.setattr(vllm.LLM, "reload_weights", lambda self, weights_path: 1 / 0)
        engine.load(Checkpoint(base.specialists["math"]))
        with pytest.raises(EngineError, match=r"did not take new weights \(division by zero\); run again"):
            engine.language_model()
    assert differences(marks(engine), marks(fresh), 0.0) == []
    vllm.ENGINES[-1].is_alive = vllm.ENGINES[-2].is_alive = False
    for one in (engine, fresh):
        with pytest.raises(EngineError, match="vLLM failed while scoring"):
            generate(one.language_model(), ["a"])
    assert differences(marks(engine), marks(fresh), 0.0) == []


def test_parking_ends_a_vllm_that_cannot_sleep(base, start, vllm, monkeypatch):
    engine, fresh = start(base.path), start(base.specialists["math"])
    engine.load(Checkpoint(base.specialists["math"]))
    engine.language_model()
    dead = vllm.ENGINES[-1]

    def fails(self, level, mode="abort"):
        raise RuntimeError("EngineCore encountered an issue. See stack trace (above) for the root cause.")

    with monkeypatch.context() as patch:
        patch.setattr(vllm.LLM, "sleep", fails)
        engine.park()
    assert not dead.is_alive
    assert differences(marks(engine), marks(fresh), 0.0) == []


def test_an_engine_s_fault_is_not_the_method_s():
    assert not issubclass(EngineError, RunError)
    assert EngineError.exit_code == 1
