"""Llama checkpoints of a few thousand parameters that transformers can load, with a tokenizer of bytes."""

from __future__ import annotations

from pathlib import Path

import torch
from checkpoint_samples import DOMAINS, SampleModels
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mergebench_core.checkpoints.checkpoint import Checkpoint

SPECIALS = ["<pad>", "<s>", "</s>"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte, 259 in all."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(SPECIALS + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def tiny_llama(seed: int, vocab_size: int = 259) -> LlamaForCausalLM:
    """Return a random model with grouped key and value heads and an untied head."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def save_model(folder: Path, model: LlamaForCausalLM, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Save a model with its tokenizer and open it as a checkpoint."""
    model.to(dtype).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return Checkpoint(folder)


def near(model: LlamaForCausalLM, seed: int, size: float = 0.05) -> LlamaForCausalLM:
    """Return a copy whose weights moved a little, embeddings and head excepted."""
    moved = tiny_llama(0)
    moved.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if "embed" not in name and "lm_head" not in name:
                parameter += size * torch.randn(parameter.shape, generator=generator)
    return moved


def tiny_llama_models(folder: Path, dtype: torch.dtype = torch.float32, size: float = 0.05) -> SampleModels:
    """Write a random base with a specialist near it per domain; `size` 0 for specialists that are the base."""
    base = tiny_llama(0)
    specialists = {
        domain: save_model(folder / domain, near(base, seed, size), dtype)
        for seed, domain in enumerate(DOMAINS, 1)
    }
    return SampleModels(base=save_model(folder / "base", base, dtype), specialists=specialists)
