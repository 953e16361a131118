"""Counter-based random numbers: the same for any chunk size, thread count and order of tensors."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LANES_PER_BLOCK = 16
"""A Philox4x64 block has four 64-bit words, that is sixteen 16-bit lanes."""


def key_of(*parts: object) -> int:
    """Return a 128-bit key for a stream named by `parts`."""
    return int.from_bytes(
        hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).digest()[:16], "little"
    )


def uniform(key: int, offset: int, numel: int) -> torch.Tensor:
    """Return fp32 uniforms on [0, 1) in steps of 2**-16 for elements `offset` to `offset + numel` of a stream."""
    import numpy as np
    import torch

    block, skip = divmod(offset, LANES_PER_BLOCK)
    generator = np.random.Philox(key=key)
    generator.advance(block)
    words = generator.random_raw(4 * -(-(skip + numel) // LANES_PER_BLOCK))
    lanes = words.astype("<u8", copy=False).view("<u2")[skip : skip + numel]
    return torch.from_numpy(lanes.astype(np.float32)) / 65536
