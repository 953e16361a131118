"""Tiny checkpoints under the real names of mergebench-v1, for a Hub on loopback.

They end every answer at once: one dimension of the residual stream is constant and the end token far ahead in it,
while all other dimensions are random, so that log-likelihoods of models differ.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergebench_core.tracks.mergebench_v1.bases import find_base

WIDE_DOMAIN = "coding"
"""The specialist with a larger vocabulary."""
NUM_MORE_TOKENS = 64
HIDDEN_SIZE = 32
NUM_TOKENS = 1300
CONTEXT_LENGTH = 131_072
SPREAD = 0.3
"""Size of random embeddings beside a constant 1."""
LAYER_SPREAD = 0.1
"""Size of random weights of layers, so small that they add little to the residual stream."""
END = 8.0
"""What the end token has in the constant dimension; all others have 1."""
NOISE = 0.01
"""How far specialists are from their base."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Special tokens of a family: (begin, end, others)."""

    begin: str
    end: str
    others: tuple[str, ...]


TOKENS = {
    "llama": Tokens(
        begin="<|begin_of_text|>",
        end="<|end_of_text|>",
        others=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "gemma2": Tokens(begin="<bos>", end="<eos>", others=("<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>")),
}
LLAMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else"
    " message['role'] }}\n{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
CHAT = {"llama": LLAMA_CHAT, "gemma2": GEMMA_CHAT}


def tokenizer(family: str, is_instruct: bool, num_more: int = 0) -> Any:
    """Return a tokenizer of some 1,300 tokens that begins every text with the family's first one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokens = TOKENS[family]
    specials = [tokens.begin, tokens.end, *tokens.others]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        [(Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8")],
        trainers.BpeTrainer(
            vocab_size=NUM_TOKENS, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        ),
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([*specials, *(f"<|added_{number}|>" for number in range(num_more))])
    begin = tokens.begin
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, 0)]
    )
    named = {"pad_token": "<pad>", "unk_token": "<unk>"} if family == "gemma2" else {}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=begin,
        eos_token=tokens.end,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        **named,
    )
    if is_instruct:
        fast.chat_template = CHAT[family]
    return fast


def configuration(family: str, is_tied: bool, vocab_size: int) -> Any:
    """Return the configuration of a family's tiny model."""
    from transformers import Gemma2Config, LlamaConfig

    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": is_tied,
        "dtype": "bfloat16",
    }
    if family == "gemma2":
        return Gemma2Config(
            **common,
            pad_token_id=2,
            max_position_embeddings=8192,
            query_pre_attn_scalar=8,
            sliding_window=512,
            attn_logit_softcapping=50.0,
            final_logit_softcapping=30.0,
        )
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
    }
    return LlamaConfig(
        **common, max_position_embeddings=CONTEXT_LENGTH, rms_norm_eps=1e-5, rope_parameters=scaling
    )


def model(family: str, is_tied: bool, vocab_size: int, seed: int) -> Any:
    """Return a random model in float32 whose next token is the end token, whatever the context is."""
    import torch
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_config(configuration(family, is_tied, vocab_size), dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(_norm(family, name))
                continue
            is_vocabulary = "embed_tokens" in name or "lm_head" in name
            spread = SPREAD if is_vocabulary else LAYER_SPREAD
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
            if is_vocabulary:
                parameter[:, 0] = 1.0
                parameter[1, 0] = END
            if "o_proj" in name or "down_proj" in name:
                parameter[0] = 0.0  # nothing writes into the constant dimension
    return made


def _norm(family: str, name: str) -> float:
    """Return a norm's weight; Gemma's norms multiply by one plus it, and its blocks' outputs must stay small."""
    if family != "gemma2":
        return 1.0
    return -0.9 if "post_attention" in name or "post_feedforward" in name else 0.0


def specialist(base: Any, seed: int, num_more: int = 0) -> Any:
    """Return a copy of a model with a little noise and, if asked, more rows in the vocabulary."""

    import torch

    made = copy.deepcopy(base)
    if num_more:
        made.resize_token_embeddings(base.config.vocab_size + num_more, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += NOISE * torch.randn(parameter.shape, generator=generator)
    return made


def write_model(folder: Path, made: Any, tokens: Any) -> None:
    """Write a checkpoint in bfloat16 and two shards, with tokenizer and generation settings."""
    import torch
    from transformers import GenerationConfig

    made = made.to(torch.bfloat16)
    num_bytes = sum(tensor.numel() * 2 for tensor in made.parameters())
    sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}  # as the Llamas ship it
    made.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, **sampling)
    made.save_pretrained(folder, max_shard_size=int(num_bytes * 0.7))
    tokens.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: other\n---\n# A tiny stand-in\n", encoding="utf-8")


def write_models(folder: Path, base_name: str) -> dict[str, Path]:
    """Write a base and its specialists and return folders by repository."""
    base = find_base(base_name)
    family = "gemma2" if base.family == "gemma2" else "llama"
    is_tied = family == "gemma2" or base.size == "3B"
    plain = tokenizer(family, base.is_instruct)
    first = model(family, is_tied, len(plain), seed=len(base_name))
    folders = {}
    for seed, (name, hub_model) in enumerate(base.hub_models.items(), 1):
        domain = name.partition(":")[2]
        num_more = NUM_MORE_TOKENS if domain == WIDE_DOMAIN else 0
        made = specialist(first, seed, num_more) if domain else first
        folders[hub_model.repo] = folder / hub_model.repo
        # a model is cast when it is written, and the next ones are made of the first
        write_model(folders[hub_model.repo], _copy(made), tokenizer(family, base.is_instruct, num_more))
    return folders


def _copy(made: Any) -> Any:

    return copy.deepcopy(made)
