"""Turning what a method computed into final values, checked on the way: the core's half of a merge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.errors import ProtocolError, RunError
from mergebench_core.kernels.library import kernels
from mergebench_core.kernels.sources import Place
from mergebench_core.kernels.weights import is_finite, merged_values

if TYPE_CHECKING:
    import torch


class Sink(Protocol):
    """Where final values go: a resident model or a file."""

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Take flat values, in the base's dtype, for elements from `offset` on."""


class NonFiniteMerge(RunError):
    """The merged model holds NaN or infinity."""


class UpdateCache:
    """Keeps the update of one configuration, so that another coefficient costs one pass over memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._key: str | None = None
        self._pieces: list[tuple[str, int, torch.Tensor]] = []
        self._num_bytes = 0

    def holds(self, key: str) -> bool:
        """Return whether the update of the configuration `key` is here."""
        return self._key == key

    def clear(self) -> None:
        """Forget what was kept."""
        self._key, self._pieces, self._num_bytes = None, [], 0

    def add(self, name: str, offset: int, update: torch.Tensor) -> None:
        """Keep a piece, as long as the limit allows."""
        self._num_bytes += update.nbytes
        if self._num_bytes <= self._limit_bytes:
            self._pieces.append((name, offset, update))
        else:
            self._pieces = []

    def seal(self, key: str) -> None:
        """Name what was added, if all of it was kept."""
        self._key = key if self._num_bytes <= self._limit_bytes else None

    def replay(self, assembly: Assembly) -> None:
        """Hand the kept update to another assembly."""
        for name, offset, update in self._pieces:
            assembly.add(name, offset, update)


class Assembly:
    """Takes the pieces of one merge, in any order of tensors, and writes final values to a sink."""

    def __init__(
        self,
        *,
        base: Checkpoint,
        entries: tuple[TensorEntry, ...],
        sink: Sink,
        coefficient: float | None,
        cache: UpdateCache | None = None,
    ) -> None:
        """Expect all of `entries`; `coefficient` scales updates, None means that final values come."""
        self._base = base
        self._sink = sink
        self._coefficient = coefficient
        self._cache = cache
        self._entries = {entry.name: entry for entry in entries}
        self._received = dict.fromkeys(self._entries, 0)
        self._problem: str | None = None

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype in which pieces of this tensor come."""
        return torch_dtype("F32" if self._coefficient is not None else self._entries[name].dtype)

    @property
    def copies(self) -> bool:
        """Whether `add` copies values before it looks at them, so that they may lie in shared memory."""
        return self._coefficient is not None and self._cache is None

    def expect(self, name: object, offset: object, numel: object) -> None:
        """Check that a piece is the next one of a tensor that the policy merges.

        Raises:
            ProtocolError: it is not.
        """
        entry = self._entries.get(name) if isinstance(name, str) else None
        if entry is None:
            raise ProtocolError(f"a piece came for '{name}', which the method's policy does not merge")
        if type(offset) is not int or type(numel) is not int or offset != self._received[entry.name]:
            raise ProtocolError(f"a piece of '{name}' came out of order")
        if numel < 1 or offset + numel > entry.numel:
            raise ProtocolError(f"a piece of '{name}' runs over its end")

    def add(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Take the next piece: fp32 update, or final values in the base's dtype."""
        self._received[name] += values.numel()
        if self._cache is not None:
            self._cache.add(name, offset, values)
        if self._coefficient is not None:
            values = merged_values(self._base_values(name, offset, values.numel()), values, self._coefficient)
        if self._problem is None and not is_finite(values):
            self._problem = f"tensor '{name}' of the merged model holds NaN or infinity"
        if self._problem is None:
            self._sink.write(name, offset, values)

    def _base_values(self, name: str, offset: int, numel: int) -> torch.Tensor | Place:
        return self._base.place(name, offset) if kernels() else self._base.read(name, offset, numel)

    @property
    def problem(self) -> str | None:
        """What is wrong with the values so far; nothing is written any more once there is something."""
        return self._problem

    def finish(self) -> None:
        """Check that everything came.

        Raises:
            NonFiniteMerge: some merged value is NaN or infinite.
            ProtocolError: a tensor is missing, wholly or in part.
        """
        if self._problem:
            raise NonFiniteMerge(self._problem)
        for name, count in self._received.items():
            if count != self._entries[name].numel:
                raise ProtocolError(f"the method gave {count} of {self._entries[name].numel} elements of '{name}'")
