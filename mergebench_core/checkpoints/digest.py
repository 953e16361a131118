"""The digest of a model's weights: the same for any sharding and any order of tensors.

sha256 over one line per tensor, sorted by name: `<name> <dtype> <shape> <sha256 of the bytes>`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces

if TYPE_CHECKING:
    import torch

    from mergebench_core.checkpoints.header import TensorEntry


class WeightsDigest:
    """Digest that grows piece by piece; the pieces of one tensor come in order, tensors in any order."""

    def __init__(self) -> None:
        self._tensors: dict[str, tuple[str, hashlib._Hash]] = {}

    def add(self, entry: TensorEntry, values: torch.Tensor) -> None:
        """Add the next elements (flat, in the stored dtype) of a tensor."""
        if entry.name not in self._tensors:
            self.begin(entry)
        self._tensors[entry.name][1].update(tensor_bytes(values))

    def add_bytes(self, entry: TensorEntry, data: bytes) -> None:
        """Add the next bytes of a tensor that was begun."""
        self._tensors[entry.name][1].update(data)

    def begin(self, entry: TensorEntry) -> None:
        """Name a tensor, also one without elements."""
        shape = "x".join(map(str, entry.shape))
        self._tensors[entry.name] = (f"{entry.name} {entry.dtype} {shape}", hashlib.sha256())

    def tensor_sha256(self, name: str) -> str:
        """Return the sha256 of what was added of one tensor."""
        return self._tensors[name][1].hexdigest()

    def hexdigest(self) -> str:
        """Return the digest of what was added."""
        lines = [f"{label} {inner.hexdigest()}\n" for label, inner in self._tensors.values()]
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def tensor_bytes(values: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous CPU tensor without copying it."""
    import torch

    return memoryview(values.reshape(-1).view(torch.uint8).numpy().data) if values.numel() else memoryview(b"")


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Return the digest of a checkpoint's weights, reading it piece by piece."""
    digest = WeightsDigest()
    for name, entry in checkpoint.entries.items():
        digest.begin(entry)
        for piece in pieces(entry):
            digest.add(entry, checkpoint.read(name, piece.offset, piece.numel))
    return digest.hexdigest()
