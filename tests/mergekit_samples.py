"""Tiny models that mergekit can merge: saved by transformers, tied or untied, of two families."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from checkpoint_samples import DOMAINS, SampleModels, Tensors

from mergebench_core.checkpoints.checkpoint import Checkpoint

FAMILIES = ("llama-untied", "llama-tied", "gemma2-tied")
NUM_LAYERS = 2


def require_mergekit() -> None:
    """Skip without mergekit; fail where the environment says that it must be there."""
    if find_spec("mergekit") is None:
        message = "mergekit is not installed: pip install 'mergebench[mergekit]'"
        if os.environ.get("MERGEBENCH_REQUIRE_MERGEKIT") == "1":
            pytest.fail(message)
        pytest.skip(message)


def loadable_models(
    folder: Path, family: str = "llama-untied", *, noise: float = 0.1, by_hand: dict[str, Tensors] | None = None
) -> SampleModels:
    """Write a random fp32 base, with specialists `noise` away; `by_hand` overrides tensors by place."""
    model = _random_model(family)
    base = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoints = {}
    for seed, place in enumerate(["base", *DOMAINS]):
        generator = torch.Generator().manual_seed(seed)
        size = noise if seed else 0.0
        state = {
            name: value + size * torch.randn(value.shape, generator=generator) for name, value in base.items()
        }
        model.load_state_dict(state | (by_hand or {}).get(place, {}))
        model.tie_weights()
        model.save_pretrained(folder / place)
        checkpoints[place] = Checkpoint(folder / place)
    return SampleModels(base=checkpoints.pop("base"), specialists=checkpoints)


def _random_model(family: str):
    from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

    sizes = {
        "vocab_size": 37,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "max_position_embeddings": 32,
        "initializer_range": 0.3,
        "tie_word_embeddings": family.endswith("-tied"),
    }
    with torch.random.fork_rng():
        torch.manual_seed(7)
        if family.startswith("gemma2"):
            return Gemma2ForCausalLM(Gemma2Config(**sizes))
        return LlamaForCausalLM(LlamaConfig(**sizes))
