"""What a tensor is for, told from its name and shape as transformers names them."""

from __future__ import annotations

import re

from mergebench_core.methods import Role

BUFFER = re.compile(
    r"(?:^|\.)(?:rotary_emb\..+|.*inv_freq|position_ids|token_type_ids|masked_bias|(?:cos|sin)_cached|relative_position_index)$"
)
"""Tensors that are made from the configuration, not learned; some versions of transformers saved them."""
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")


def role_of(name: str, shape: tuple[int, ...]) -> Role:
    """Return the role of a tensor.

    Example:
        >>> role_of("model.layers.0.mlp.up_proj.weight", (288, 96))
        'linear'
    """
    parts = name.split(".")
    owner = parts[-2] if len(parts) > 1 else parts[0]
    if "embed" in owner or owner in ("wte", "wpe"):
        return "embedding"
    if owner in ("lm_head", "embed_out", "output"):
        return "head"
    if "norm" in owner or owner.startswith("ln_"):
        return "norm"
    if parts[-1] == "bias":
        return "bias"
    return "linear" if len(shape) == 2 else "other"


def is_buffer(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor is made from the configuration and not learned, such as rotary frequencies.

    Causal masks were once saved as `attn.bias`, with four dimensions where a bias has one.
    """
    is_mask = name.endswith(("attn.bias", "attention.bias")) and len(shape) == 4
    return is_mask or BUFFER.search(name) is not None


def layer_of(name: str) -> int | None:
    """Return the index of the transformer block a tensor belongs to, None outside the blocks."""
    match = LAYER.search(name)
    return int(match.group(1)) if match else None
