"""Pretraining of a base model from nothing: architecture, packing and a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

MAX_LENGTH = 256
_ROW_LENGTH, _BATCH_SIZE = 64, 16
# Large embeddings learn much faster at this width (Gemma-2, 750 steps: loss .92 instead of 1.05 with .02).
_EMBEDDING_STD = {"llama": 1.0, "gemma2": 0.1}
_MEAN_DOCUMENT_TOKENS = 18  # below the mean, so that the documents fill all rows


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """How one base model is made."""

    name: str
    architecture: str
    """`llama` or `gemma2`."""
    num_steps: int
    learning_rate: float = 5e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01

    @property
    def num_documents(self) -> int:
        """Documents to write so that the rows are filled less than once."""
        return _ROW_LENGTH * _BATCH_SIZE * self.num_steps // _MEAN_DOCUMENT_TOKENS


def _shape(tokenizer: PreTrainedTokenizerFast) -> dict[str, object]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 96,
        "intermediate_size": 288,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 24,
        "max_position_embeddings": MAX_LENGTH,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _llama_config(shape: dict[str, object]) -> PretrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(**shape, tie_word_embeddings=False, initializer_range=0.1)  # type: ignore[arg-type]


def _gemma2_config(shape: dict[str, object]) -> PretrainedConfig:
    from transformers import Gemma2Config

    # Only eager attention applies a soft cap to its scores, and no file keeps that choice: without the cap
    # every implementation computes the same function. The cap on the logits stays.
    return Gemma2Config(
        **shape,  # type: ignore[arg-type]
        tie_word_embeddings=True,
        sliding_window=64,
        query_pre_attn_scalar=24,
        attn_logit_softcapping=None,
    )


def create_model(architecture: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    """Return an untrained fp32 model of `architecture` (`llama`: untied head, `gemma2`: tied head)."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = {"llama": _llama_config, "gemma2": _gemma2_config}[architecture](_shape(tokenizer))
    auto: Any = AutoModelForCausalLM  # untyped
    model = auto.from_config(config, dtype=torch.float32)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=_EMBEDDING_STD[architecture])
    return model


def learning_rate_factor(step: int, num_steps: int, warmup_steps: int, floor: float = 0.05) -> float:
    """Return the factor of the learning rate at `step` (from 0): warm-up, then linear down to `floor`."""
    return min(1.0, (step + 1) / warmup_steps) * (floor + (1 - floor) * (1 - step / num_steps))


def pack_documents(documents: list[str], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return all documents as rows of token ids, `<s> text </s>` after each other: int64 (rows, 64)."""
    import torch

    ids: list[int] = []
    encoded = tokenizer(documents)["input_ids"]
    for row in encoded:
        ids += [*row, tokenizer.eos_token_id]
    num_rows = len(ids) // _ROW_LENGTH
    return torch.tensor(ids[: num_rows * _ROW_LENGTH]).view(num_rows, _ROW_LENGTH)


def _optimizer(model: Any, recipe: BaseRecipe) -> torch.optim.Optimizer:
    import torch

    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


def pretrain(
    recipe: BaseRecipe,
    tokenizer: PreTrainedTokenizerFast,
    documents: list[str],
    seed: int,
    progress: Callable[[str], None],
) -> Any:
    """Return the base model: `seed` drives the weights' start and the order of the rows."""
    import torch

    model = create_model(recipe.architecture, tokenizer, seed)
    rows = pack_documents(documents, tokenizer)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    optimizer = _optimizer(model, recipe)
    window = 0.0
    model.train()
    for step in range(recipe.num_steps):
        factor = learning_rate_factor(step, recipe.num_steps, recipe.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * factor
        picked = order[torch.arange(step * _BATCH_SIZE, (step + 1) * _BATCH_SIZE) % len(order)]
        loss = model(input_ids=rows[picked], labels=rows[picked]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        window += loss.item()
        if (step + 1) % 250 == 0:
            progress(f"{recipe.name}: step {step + 1} of {recipe.num_steps}, loss {window / 250:.3f}")
            window = 0.0
    return model.eval()
