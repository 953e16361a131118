"""Calibration samples as batches of tokens, and the models that read them: for methods that need samples.

A sequence is prompt, completion, end-of-text token. Batches are padded on the right and come without attention
mask: a causal model never looks to the right, so padding changes nothing at the positions that count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mergebench_core.errors import CheckpointError, InputError

MAX_TOKENS = 512
"""Longest sequence; see `encode`."""
TOKENS_PER_BATCH = 2048
"""Tokens of a batch, padding counted."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One calibration sample as tokens."""

    tokens: tuple[int, ...]
    num_prompt_tokens: int
    """How many of the first tokens are the prompt."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples side by side, padded on the right."""

    tokens: torch.Tensor
    """int64 [samples, length]."""
    is_token: torch.Tensor
    """bool [samples, length]: False on padding."""
    is_completion: torch.Tensor
    """bool [samples, length]: tokens of the completion that a token precedes."""


def load_model(path: Path, device: torch.device) -> torch.nn.Module:
    """Load a causal language model from local files: fp32, dropout off, no gradients.

    Raises:
        CheckpointError: transformers cannot load it.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        # eager: Gemma-2 soft-caps its attention logits, which other implementations leave out
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager", local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(path, "causal language model", error) from None
    return model.eval().requires_grad_(False).to(device)


def load_tokenizer(path: Path):
    """Load the tokenizer beside a model.

    Raises:
        CheckpointError: transformers cannot load it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _cannot_load(path, "tokenizer", error) from None


def _cannot_load(path: Path, what: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:300]
    return CheckpointError(f"{path}: holds no {what} that transformers can load ({reason}); save it there")


def read_samples(context, domain: str, num_samples: int, tokenizer) -> list[Sample]:
    """Read a domain's calibration samples through the meter, as tokens; empty ones are left out.

    Raises:
        InputError: none is left.
    """
    rows = context.calibration(domain, num_samples)
    samples = [sample for row in rows if (sample := encode(row, tokenizer)).tokens]
    if not samples:
        raise InputError(f"domain '{domain}' has no calibration samples; add rows with prompt and completion")
    return samples


def encode(row: Mapping[str, str], tokenizer) -> Sample:
    """Return a sample's tokens: prompt with what the tokenizer puts before it, completion, end of text.

    Of more than `MAX_TOKENS` tokens, the completion's first ones are kept and as many of the prompt's last ones as
    leave the completion at least half; the very first token stays, since models lean on it.
    """
    prompt = list(tokenizer(row["prompt"])["input_ids"])
    completion = list(tokenizer(row["completion"], add_special_tokens=False)["input_ids"])
    if tokenizer.eos_token_id is not None:
        completion.append(tokenizer.eos_token_id)
        prompt = prompt[:-1] if prompt[1:] and prompt[-1] == tokenizer.eos_token_id else prompt
    room = max(MAX_TOKENS // 2, MAX_TOKENS - len(completion))
    if len(prompt) > room:
        prompt = prompt[:1] + prompt[len(prompt) - room + 1 :]
    tokens = (prompt + completion)[:MAX_TOKENS]
    return Sample(tokens=tuple(tokens), num_prompt_tokens=len(prompt))


def batch_of(samples: Sequence[Sample], device: torch.device) -> Batch:
    """Put samples side by side."""
    length = max(len(sample.tokens) for sample in samples)
    tokens = [[*sample.tokens, *[0] * (length - len(sample.tokens))] for sample in samples]
    place = torch.arange(length)
    is_token = place < torch.tensor([[len(sample.tokens)] for sample in samples])
    starts = torch.tensor([[max(sample.num_prompt_tokens, 1)] for sample in samples])
    return Batch(
        tokens=torch.tensor(tokens).to(device),
        is_token=is_token.to(device),
        is_completion=(is_token & (place >= starts)).to(device),
    )


def batches(samples: Sequence[Sample], device: torch.device) -> Iterator[Batch]:
    """Yield all samples in batches of at most `TOKENS_PER_BATCH` tokens, short ones first to pad little."""
    waiting: list[Sample] = []
    for sample in sorted(samples, key=lambda sample: len(sample.tokens)):
        if waiting and (len(waiting) + 1) * len(sample.tokens) > TOKENS_PER_BATCH:
            yield batch_of(waiting, device)
            waiting = []
        waiting.append(sample)
    if waiting:
        yield batch_of(waiting, device)


def completion_logits(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return fp32 logits [n, vocabulary] that predict the batch's n completion tokens, and these tokens [n]."""
    logits = model(input_ids=batch.tokens, use_cache=False).logits[:, :-1]
    is_target = batch.is_completion[:, 1:]
    return logits[is_target].float(), batch.tokens[:, 1:][is_target]
