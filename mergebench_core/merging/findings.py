"""What a user should know of the models before trusting their merge: warnings, and notes on what is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mergebench_core.checkpoints.checkpoint import Checkpoint, Piece, pieces
from mergebench_core.checkpoints.policy import MergePlan
from mergebench_core.checkpoints.roles import role_of
from mergebench_core.merging.models import Model

if TYPE_CHECKING:
    import torch

FAR_RATIO = 0.5
"""Length of the task vector over that of the base's weights above which a specialist looks unrelated.

Fine-tuning moves weights little: the specialists of mini-v1, trained from their base, are at 0.03 to 0.06. Weights
that have nothing to do with the base's are orthogonal to them, so that their distance is the base's own length and
more: 1.41 for two random models of one shape. Half the base's length leaves room on both sides.
"""
NUM_SAMPLED_TENSORS = 32
SAMPLE_NUMEL = 1 << 16
TOKENIZER = ("tokenizer*", "*.model", "vocab*", "*.tiktoken")
CHAT_TEMPLATE = ("chat_template*",)
CONFIG_KEYS = (
    "model_type", "vocab_size", "rope_theta", "rope_scaling", "rope_parameters", "max_position_embeddings",
    "sliding_window", "hidden_act", "rms_norm_eps", "layer_norm_eps", "num_attention_heads", "num_key_value_heads",
    "tie_word_embeddings", "eos_token_id",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing worth saying."""

    kind: Literal["warning", "note"]
    text: str


def find_all(base: Model, specialists: Mapping[str, Model], plan: MergePlan) -> list[Finding]:
    """Return everything worth saying of models that fit together; reads a sample of the weights."""
    found = [*_of_base(base, plan)]
    for model in specialists.values():
        found += [*_of_files(base, model, plan), *_of_weights(base, model, plan)]
    return [*found, *_twins(specialists, plan)]


def _warning(text: str) -> Finding:
    return Finding(kind="warning", text=text)


def _note(text: str) -> Finding:
    return Finding(kind="note", text=text)


def _of_base(base: Model, plan: MergePlan) -> Iterator[Finding]:
    if not base.config:
        yield _warning(f"{base.where}: has no config.json, so transformers cannot load the merged model; add one")
    if not base.has(*TOKENIZER):
        yield _warning(f"{base.where}: has no tokenizer, so the merged model has none; copy one into its folder")
    if buffers := [entry.name for entry in plan.left_out if role_of(entry.name, entry.shape) == "other"]:
        yield _note(f"{len(buffers)} tensors of the base are no weights and stay as they are: {_some(buffers)}")


def _of_files(base: Model, model: Model, plan: MergePlan) -> Iterator[Finding]:
    ours, theirs = base.checkpoint.entries, model.checkpoint.entries
    other = [
        f"{name} {theirs[name].shape[0]} rows, base {entry.shape[0]}"
        for name, entry in ours.items()
        if name in theirs and theirs[name].shape != entry.shape
    ]
    if other:
        yield _note(
            f"{model.where}: another vocabulary ({'; '.join(other)}): these stay the base's, extra tokens are lost"
        )
    left_out = [entry.name for entry in plan.left_out]
    if heads := [name for name in left_out if name not in theirs and role_of(name, ours[name].shape) == "head"]:
        yield _note(f"{model.where}: stores no {heads[0]} (tied to its embeddings); the head stays the base's")
    if extra := [name for name in theirs if name not in ours]:
        yield _note(f"{model.where}: {_some(extra)} ignored: the base does not store it, and it is not merged")
    dtypes = sorted({theirs[entry.name].dtype for entry in plan.merged if theirs[entry.name].dtype != entry.dtype})
    if dtypes:
        yield _note(f"{model.where}: stored as {', '.join(dtypes)}; merged in F32 and rounded to the base's dtype")
    if base.config and model.config:
        yield from _of_config(base, model)
    if model.has(*CHAT_TEMPLATE) and not base.has(*CHAT_TEMPLATE):
        yield _note(f"{model.where}: has a chat template, the base has none, so the merged model has none")


def _of_config(base: Model, model: Model) -> Iterator[Finding]:
    changed = [key for key in CONFIG_KEYS if base.config.get(key) != model.config.get(key)]
    if "model_type" in changed:
        kinds = model.config.get("model_type"), base.config.get("model_type")
        yield _warning(
            f"{model.where}: is a {kinds[0]} model, the base a {kinds[1]} model; merging them rarely works"
        )
        changed.remove("model_type")
    if changed:
        values = ", ".join(f"{key} {model.config.get(key)} (base {base.config.get(key)})" for key in changed)
        yield _note(f"{model.where}: config.json differs, the base's is kept: {values}"[:600])


def _of_weights(base: Model, model: Model, plan: MergePlan) -> Iterator[Finding]:
    if model.folder.resolve() == base.folder.resolve() or _are_equal(base.checkpoint, model.checkpoint, plan):
        yield _warning(f"{model.where}: its merged weights are the base's own; it adds nothing")
        return
    ratio = distance_ratio(base.checkpoint, model.checkpoint, plan)
    if ratio > FAR_RATIO:
        yield _warning(
            f"{model.where}: its weights lie far from the base's (task vector {ratio:.2f} times as long as the "
            "base; fine-tuned models are below 0.5, unrelated ones above 1); was it fine-tuned from this base?"
        )


def _twins(specialists: Mapping[str, Model], plan: MergePlan) -> Iterator[Finding]:
    models = list(specialists.values())
    for number, second in enumerate(models):
        for first in models[:number]:
            is_same = first.folder.resolve() == second.folder.resolve()
            if is_same or _are_equal(first.checkpoint, second.checkpoint, plan):
                yield _warning(f"{first.where} and {second.where}: the same weights twice")


def distance_ratio(base: Checkpoint, specialist: Checkpoint, plan: MergePlan) -> float:
    """Return ||specialist - base|| / ||base|| over a sample of the merged linear weights, NaN without any."""
    distance = length = 0.0
    for piece in _sample(plan):
        ours, theirs = (_read(model, piece).double() for model in (base, specialist))
        distance += float((theirs - ours).square().sum())
        length += float(ours.square().sum())
    return math.sqrt(distance / length) if length > 0 else math.nan


def _sample(plan: MergePlan) -> list[Piece]:
    """Return the middle piece of a few linear weights, spread evenly over the model."""
    entries = [entry for entry in plan.merged if role_of(entry.name, entry.shape) == "linear"]
    step = max(1, len(entries) // NUM_SAMPLED_TENSORS)
    found = [list(pieces(entry, SAMPLE_NUMEL)) for entry in entries[::step]]
    return [cut[len(cut) // 2] for cut in found if cut]


def _are_equal(first: Checkpoint, second: Checkpoint, plan: MergePlan) -> bool:
    """Return whether all merged weights are equal; most pairs differ in the sample, which is looked at first."""
    all_pieces = (piece for entry in plan.merged for piece in pieces(entry))
    return all(
        bool((_read(first, piece) == _read(second, piece)).all())
        for group in (_sample(plan), all_pieces)
        for piece in group
    )


def _read(model: Checkpoint, piece: Piece) -> torch.Tensor:
    return model.read(piece.entry.name, piece.offset, piece.numel).float()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
