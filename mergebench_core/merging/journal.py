"""A file as the sink of a merge: tells how far it is, stops at a bad input."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.assembly import Assembly, NonFiniteMerge
from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.checkpoints.writer import CheckpointWriter
from mergebench_core.hub import SECONDS_BETWEEN_LINES, Progress
from mergebench_core.merging.reading import InputReading

if TYPE_CHECKING:
    import torch


class JournaledWriter:
    """The sink of one merge."""

    def __init__(
        self,
        *,
        base: Checkpoint,
        writer: CheckpointWriter,
        reading: InputReading,
        progress: Progress,
    ) -> None:
        self._base = base
        self._writer = writer
        self._reading = reading
        self._progress = progress
        self._total_bytes = sum(entry.num_bytes for entry in base.entries.values())
        self._done_bytes = 0
        self._told_s = 0.0

    def count_kept(self, entries: tuple[TensorEntry, ...]) -> None:
        """Count tensors that an interrupted merge finished."""
        self._done_bytes += sum(entry.num_bytes for entry in entries)

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Take final values; see `Sink`.

        Raises:
            CheckpointError: an input turned out to hold NaN or infinity.
        """
        self._reading.check()
        self._writer.write(name, offset, values)
        self._done_bytes += values.nbytes
        self._tell(is_last=self._done_bytes == self._total_bytes)

    def copy_from_base(self, entry: TensorEntry) -> None:
        """Write the base's own values of a tensor."""
        for piece in pieces(entry):
            self._reading.check()
            values = self._base.read(entry.name, piece.offset, piece.numel)
            self._writer.write(entry.name, piece.offset, values)
            self._done_bytes += values.nbytes
            self._tell(is_last=self._done_bytes == self._total_bytes)

    def _tell(self, *, is_last: bool) -> None:
        now = time.monotonic()
        if is_last or now - self._told_s >= SECONDS_BETWEEN_LINES:
            self._told_s = now
            share = self._done_bytes / self._total_bytes
            self._progress(f"merging: {100 * share:.0f}% of {self._total_bytes / 2**20:.1f} MiB")


class ImpatientAssembly(Assembly):
    """An assembly whose first bad value ends the merge, which nobody wants to see finished."""

    def add(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Take the next piece; see `Assembly.add`.

        Raises:
            NonFiniteMerge: it makes the merged model hold NaN or infinity.
        """
        super().add(name, offset, values)
        if self.problem:
            raise NonFiniteMerge(self.problem)
