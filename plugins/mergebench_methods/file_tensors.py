"""Tensors kept in files of a work folder: mapped, so that the system may drop them when memory is short."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from mergebench_core.worker.prepared import release


class FileTensors:
    """Makes tensors that live in files, one each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = len(list(folder.glob("*.tensor")))

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return a tensor of zeros on the CPU; what is written into it is written into its file."""
        self._count += 1
        path = self._folder / f"{self._count}.tensor"
        numel = math.prod(shape)
        return torch.from_file(str(path), shared=True, size=numel, dtype=dtype).view(shape)

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy of `tensor` that lives in a file, and takes no memory until it is read."""
        kept = self.zeros(tuple(tensor.shape), tensor.dtype).copy_(tensor)
        release(kept)
        return kept
