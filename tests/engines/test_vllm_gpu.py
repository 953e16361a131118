"""The engine on the real vLLM and a real GPU; skipped where either is missing. Takes minutes."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
import tiny_llama
import torch

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.evaluation.engines.comparison import TOLERANCES, differences, fingerprint
from mergebench_core.evaluation.engines.engine import open_engine

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
    pytest.mark.filterwarnings("default"),  # those of vLLM are not ours to mend
]


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def models(request, tmp_path_factory):
    """Two models of one shape, with heads of a size that attention kernels have."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=320,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            max_position_embeddings=512,
            initializer_range=0.2,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=request.param,
        )
        folders.append(tmp_path_factory.mktemp("model"))
        tiny_llama.save_model(folders[-1], LlamaForCausalLM(config), torch.bfloat16)
    return folders


@pytest.fixture
def start(models, toy_track, tmp_path, monkeypatch):
    monkeypatch.setenv("MERGEBENCH_GPU_MEMORY_FRACTION", "0.3")
    settings = dataclasses.replace(toy_track.evaluation, dtype="bfloat16", device="auto", max_length=256)
    opened = []

    def open_one(path, name="vllm"):
        opened.append(open_engine(name, path, settings, tmp_path))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.close()


def test_loading_in_place_is_starting_anew(models, start):
    first, second = models
    engine = start(first)
    before = fingerprint(engine.language_model())
    target = Checkpoint(second)
    for entry in target.entries.values():
        engine.copy(target, entry)
    in_place = fingerprint(engine.language_model())
    assert differences(in_place, before, TOLERANCES["vllm"])
    held = torch.cuda.mem_get_info()[0]
    engine.park()
    assert torch.cuda.mem_get_info()[0] > held + 2**30
    after_parking = fingerprint(engine.language_model())
    assert differences(after_parking, in_place, TOLERANCES["vllm"]) == []
    engine.load(Checkpoint(first))
    assert differences(fingerprint(engine.language_model()), before, TOLERANCES["vllm"]) == []
    engine.close()
    fresh = start(second)
    assert differences(in_place, fingerprint(fresh.language_model()), TOLERANCES["vllm"]) == []
    fresh.close()
    reference = fingerprint(start(second, "hf").language_model())
    for ours, theirs in zip(in_place.log_probabilities, reference.log_probabilities, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05)  # other kernels, in bfloat16


def test_repeats_differ_and_runs_repeat(models, start, generate):
    engine = start(models[0])
    sampled = {"do_sample": True, "temperature": 1.0, "top_p": 0.95, "top_k": 0}
    first = generate(engine.language_model(), ["one"] * 4, **sampled)
    assert len(set(first)) > 1
    generate(engine.language_model(), ["another"], **sampled)
    assert generate(engine.language_model(), ["one"] * 4, **sampled) == first
