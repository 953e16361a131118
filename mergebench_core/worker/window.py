"""The shared memory through which merged tensors cross: a few slots, made by the host."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import CHUNK_NUMEL

if TYPE_CHECKING:
    import torch

NUM_SLOTS = 4
SLOT_BYTES = 4 * CHUNK_NUMEL


def create_descriptor() -> int:
    """Return the descriptor of a new anonymous file of the window's size."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("mergebench-window", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, NUM_SLOTS * SLOT_BYTES)
        # a worker that shortened it would end the host with SIGBUS
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return descriptor
    with tempfile.TemporaryFile() as file:  # macOS
        descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, NUM_SLOTS * SLOT_BYTES)
    return descriptor


class Window:
    """Both sides' view of the shared memory."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, NUM_SLOTS * SLOT_BYTES)

    def put(self, slot: int, values: torch.Tensor) -> None:
        """Copy a contiguous tensor of at most `SLOT_BYTES` into a slot."""
        assert values.nbytes <= SLOT_BYTES
        self.view(slot, values.numel(), values.dtype).copy_(values)

    def view(self, slot: int, numel: int, dtype: torch.dtype) -> torch.Tensor:
        """Return a slot's first `numel` elements, flat, where they lie: the other side may still change them."""
        import torch

        if not numel:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self._memory, dtype=dtype, count=numel, offset=slot * SLOT_BYTES)

    def take(self, slot: int, numel: int, dtype: torch.dtype) -> torch.Tensor:
        """Return a copy of a slot's first `numel` elements, flat; the other side cannot change it any more."""
        return self.view(slot, numel, dtype).clone()

    def close(self) -> None:
        """Unmap the memory, unless views of it are still about: then with the last of them."""
        with contextlib.suppress(BufferError):
            self._memory.close()
