"""The weights that a method is handed, chunk by chunk or tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import CHUNK_NUMEL, Checkpoint, Piece, pieces
from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.checkpoints.roles import layer_of, role_of
from mergebench_core.methods import Depth, PerDomain, Role
from mergebench_core.worker.random import key_of, uniform

if TYPE_CHECKING:
    import torch

    from mergebench_core.checkpoints.header import TensorEntry


@dataclass(frozen=True, kw_only=True)
class Models:
    """The checkpoints of one merge."""

    base: Checkpoint
    specialists: Mapping[str, Checkpoint]
    seed: int


class CheckpointChunk:
    """A `TensorChunk` over checkpoints; reads what the method asks for, when it asks."""

    def __init__(self, models: Models, piece: Piece, depth: Depth) -> None:
        self._models = models
        self._piece = piece
        self.shape = (piece.numel,) if depth == "elementwise" else piece.entry.shape

    @property
    def name(self) -> str:
        return self._piece.entry.name

    @property
    def role(self) -> Role:
        return role_of(self.name, self._piece.entry.shape)

    @property
    def layer(self) -> int | None:
        return layer_of(self.name)

    @property
    def offset(self) -> int:
        return self._piece.offset

    @property
    def numel(self) -> int:
        return self._piece.numel

    @property
    def entry_numel(self) -> int:
        """Elements of the whole tensor."""
        return self._piece.entry.numel

    @property
    def dtype(self) -> torch.dtype:
        return torch_dtype(self._piece.entry.dtype)

    @cached_property
    def base(self) -> torch.Tensor:
        return self._read(self._models.base)

    @cached_property
    def specialists(self) -> PerDomain[torch.Tensor]:
        return PerDomain({domain: self._read(model) for domain, model in self._models.specialists.items()})

    @cached_property
    def task_vectors(self) -> PerDomain[torch.Tensor]:
        return PerDomain({domain: values - self.base for domain, values in self.specialists.items()})

    def random(self, domain: str) -> torch.Tensor:
        key = key_of(self._models.seed, domain, self.name)
        return uniform(key, self.offset, self.numel).view(self.shape)

    def _read(self, model: Checkpoint) -> torch.Tensor:
        return model.read(self.name, self.offset, self.numel).float().view(self.shape)


def walk(
    models: Models, entries: tuple[TensorEntry, ...], depth: Depth, chunk_numel: int = CHUNK_NUMEL
) -> Iterator[CheckpointChunk]:
    """Walk over tensors in order: whole ones for depth `tensor`, else in chunks of `chunk_numel` elements."""
    for entry in entries:
        size = chunk_numel if depth == "elementwise" else max(entry.numel, 1)
        for piece in pieces(entry, size):
            yield CheckpointChunk(models, piece, depth)
