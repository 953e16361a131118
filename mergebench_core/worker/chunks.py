"""The weights that a method is handed, chunk by chunk or tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import CHUNK_NUMEL, Checkpoint, Piece, pieces
from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.checkpoints.roles import layer_of, role_of
from mergebench_core.kernels.sources import StoredWeights
from mergebench_core.kernels.updates import task_vector
from mergebench_core.methods import Depth, PerDomain, Role
from mergebench_core.worker.random import key_of, uniform

if TYPE_CHECKING:
    import torch

    from mergebench_core.checkpoints.header import TensorEntry
    from mergebench_core.worker.stream import Slot


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
        self._base: torch.Tensor | None = None
        self._task_vectors: PerDomain[torch.Tensor] | None = None
        self.slot: Slot | None = None
        """Of the window, reserved for the chunk's update."""
        self._out: torch.Tensor | None = None
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
    def domains(self) -> tuple[str, ...]:
        return tuple(sorted(self._models.specialists))

    @property
    def stored(self) -> StoredWeights:
        """Where the weights lie, for kernels that read them by themselves; the first to ask may use the slot."""
        out, self._out = self._out, None
        return StoredWeights(
            base=self._models.base.place(self.name, self.offset),
            specialists=PerDomain(
                {domain: model.place(self.name, self.offset) for domain, model in self._models.specialists.items()}
            ),
            random_keys=tuple(key_of(self._models.seed, domain, self.name) for domain in self.domains),
            numel=self.numel,
            shape=self.shape,
            out=out,
        )

    def reserve(self, slot: Slot | None) -> None:
        """Let a kernel leave the update in a slot of the window."""
        self.slot = slot
        self._out = slot.view(self.numel) if slot else None

    @property
    def dtype(self) -> torch.dtype:
        return torch_dtype(self._piece.entry.dtype)

    @property
    def base(self) -> torch.Tensor:
        if self._base is None:
            self._base = self._stored_base.float().view(self.shape)
        return self._base

    @property
    def specialists(self) -> PerDomain[torch.Tensor]:
        return PerDomain(
            {domain: values.float().view(self.shape) for domain, values in self._stored_specialists.items()}
        )

    @property
    def task_vectors(self) -> PerDomain[torch.Tensor]:
        if self._task_vectors is None:
            base = self._stored_base
            self._task_vectors = PerDomain(
                {
                    domain: task_vector(base, values).view(self.shape)
                    for domain, values in self._stored_specialists.items()
                }
            )
        return self._task_vectors

    @cached_property
    def _stored_base(self) -> torch.Tensor:
        return self._read(self._models.base)

    @cached_property
    def _stored_specialists(self) -> dict[str, torch.Tensor]:
        return {domain: self._read(model) for domain, model in self._models.specialists.items()}

    def random(self, domain: str) -> torch.Tensor:
        key = key_of(self._models.seed, domain, self.name)
        return uniform(key, self.offset, self.numel).view(self.shape)

    def _read(self, model: Checkpoint) -> torch.Tensor:
        return model.read(self.name, self.offset, self.numel)


def walk(
    models: Models, entries: tuple[TensorEntry, ...], depth: Depth, chunk_numel: int = CHUNK_NUMEL
) -> Iterator[CheckpointChunk]:
    """Walk over tensors in order: whole ones for depth `tensor`, else in chunks of `chunk_numel` elements."""
    for entry in entries:
        size = chunk_numel if depth == "elementwise" else max(entry.numel, 1)
        for piece in pieces(entry, size):
            yield CheckpointChunk(models, piece, depth)
