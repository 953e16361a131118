"""The engine on transformers: what moving, parking and replacing weights may not change."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import CheckpointError, InputError
from mergebench_core.evaluation.engines.comparison import PROMPTS, TOLERANCES, differences, fingerprint
from mergebench_core.evaluation.engines.hf import HfEngine

BASES = ("toy-untied", "toy-tied")
HAS_GPU = torch.cuda.is_available()


@pytest.fixture(params=BASES)
def base(request, toy_track):
    return toy_track.bases[request.param]


@pytest.fixture
def untied(toy_track):
    return toy_track.bases["toy-untied"]


def marks(engine):
    return fingerprint(engine.language_model(), PROMPTS[:2])


def copy_all(engine, checkpoint, skipped=""):
    for entry in checkpoint.entries.values():
        if entry.name != skipped:
            engine.copy(checkpoint, entry)


def test_replacing_in_place_is_loading_anew(base, start):
    engine, fresh = start(base.path, name="hf"), start(base.specialists["math"], name="hf")
    before = marks(engine)
    copy_all(engine, Checkpoint(base.specialists["math"]))
    assert differences(marks(engine), marks(fresh), TOLERANCES["hf"]) == []
    assert marks(engine) != before


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.1.input_layernorm.weight"])
def test_a_skipped_tensor_is_noticed(base, start, name):
    engine, fresh = start(base.path, name="hf"), start(base.specialists["math"], name="hf")
    engine.language_model()
    copy_all(engine, Checkpoint(base.specialists["math"]), skipped=name)
    assert differences(marks(engine), marks(fresh), TOLERANCES["hf"])


def test_tensors_written_after_a_move_are_those_that_score(base, start, monkeypatch):
    """A move gives the parameters other storage: references from before it would lead nowhere."""
    engine, fresh = start(base.path, name="hf"), start(base.specialists["coding"], name="hf")
    engine.language_model()
    before = {name: value.data_ptr() for name, value in engine._tensors.items()}
    _pretend_move(engine, monkeypatch)
    assert all(value.data_ptr() != before[name] for name, value in engine._tensors.items())
    copy_all(engine, Checkpoint(base.specialists["coding"]))
    assert marks(engine) == marks(fresh)
    assert _is_tied(engine) == (base.name == "toy-tied")


def test_parking_keeps_weights(base, start):
    engine = start(base.path, name="hf")
    copy_all(engine, Checkpoint(base.specialists["safety"]))
    before = marks(engine)
    engine.park()
    assert marks(engine) == before


def test_a_batch_size_is_that_of_the_next_scoring(untied, start, generate, monkeypatch):
    engine = start(untied.path, name="hf")
    sizes = []
    call = engine.model.generate
    monkeypatch.setattr(
        engine.model, "generate", lambda **inputs: sizes.append(len(inputs["input_ids"])) or call(**inputs)
    )
    for size, expected in ((8, [5]), (2, [2, 2, 1]), (8, [5])):
        engine.set_batch_size(size)
        sizes.clear()
        generate(engine.language_model(), list("abcde"), max_gen_toks=1)
        assert sizes == expected


def test_attention_is_the_one_that_soft_caps(untied, start):
    assert start(untied.path, name="hf").model.config._attn_implementation == "eager"


def test_a_file_that_lacks_a_tensor_is_refused(untied, toy_track, tmp_path):
    """Transformers would go on with random values."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(untied.path, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"has no tensor 'model.norm.weight', which its architecture needs"):
        HfEngine(tmp_path / "model", toy_track.evaluation)


def test_a_head_that_is_tied_need_not_stand_in_the_file(toy_track, start):
    tied = toy_track.bases["toy-tied"]
    assert "lm_head.weight" not in Checkpoint(tied.path).names
    assert _is_tied(start(tied.path, name="hf"))


@pytest.mark.parametrize("damage", ["cut", "shapes"])
def test_a_damaged_model_is_one_line(untied, toy_track, tmp_path, damage):
    shutil.copytree(untied.path, tmp_path / "model")
    if damage == "cut":
        with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
            file.truncate(3000)
    else:
        config = tmp_path / "model" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 32}))
    with pytest.raises(CheckpointError, match="cannot be loaded as a causal language model") as caught:
        HfEngine(tmp_path / "model", toy_track.evaluation)
    assert "\n" not in str(caught.value)


def test_a_model_larger_than_the_gpu_is_one_line_and_stays_whole(untied, start, monkeypatch):
    engine = start(untied.path, name="hf")
    before = marks(engine)
    move = engine.model.to

    def no_room(device):
        if str(device) == "meta":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(device)

    monkeypatch.setattr(engine.model, "to", no_room)
    with pytest.raises(InputError, match="does not fit in the GPU's memory"):
        engine._move_to(torch.device("meta"))
    assert marks(engine) == before


@pytest.mark.skipif(not HAS_GPU, reason="no GPU that torch can use")
class TestOnGpu:
    """The same on a GPU, where moves are real."""

    @pytest.fixture
    def settings(self, toy_track):
        return dataclasses.replace(toy_track.evaluation, device="auto")

    def test_parked_weights_are_replaced_and_come_back(self, base, settings):
        engine, fresh = HfEngine(base.path, settings), HfEngine(base.specialists["math"], settings)
        marks(engine)
        held = torch.cuda.memory_allocated()
        engine.park()
        assert torch.cuda.memory_allocated() < held
        assert engine.model.device.type == "cpu"
        copy_all(engine, Checkpoint(base.specialists["math"]))
        assert differences(marks(engine), marks(fresh), TOLERANCES["hf"]) == []
        assert engine.model.device.type == engine.language_model().device.type == "cuda"
        assert _is_tied(engine) == (base.name == "toy-tied")
        copy_all(engine, Checkpoint(base.specialists["coding"]))  # and on the GPU itself
        coding = HfEngine(base.specialists["coding"], settings)
        assert differences(marks(engine), marks(coding), TOLERANCES["hf"]) == []

    def test_closing_frees_the_memory(self, untied, settings):
        before = torch.cuda.memory_allocated()
        engine = HfEngine(untied.path, settings)
        marks(engine)
        assert torch.cuda.memory_allocated() > before
        engine.close()
        assert torch.cuda.memory_allocated() <= before + 2**24  # what cuBLAS keeps for itself


def _is_tied(engine):
    model = engine.model
    return model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def _pretend_move(engine, monkeypatch):
    """Give every parameter other storage, through the call by which `Module.to` does it."""
    monkeypatch.setattr(engine.model, "to", lambda device: engine.model._apply(lambda value: value.clone()))
    engine._move_to(torch.device("meta"))
