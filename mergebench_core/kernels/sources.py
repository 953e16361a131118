"""Weights as kernels take them: a tensor in memory, or a place in a file that the kernel reads block by block."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.errors import CheckpointError
from mergebench_core.kernels.library import INT, LONG, POINTER
from mergebench_core.methods import PerDomain

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Place:
    """A run of elements in an open file."""

    path: Path
    descriptor: int
    position: int
    """First byte, counted from the beginning of the file."""
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """The weights of a chunk as their files store them, each in its own dtype: places in files, or CPU tensors."""

    base: torch.Tensor | Place
    specialists: PerDomain[torch.Tensor | Place]
    random_keys: tuple[int, ...]
    """128-bit keys of the random streams, in the order of the domains."""
    numel: int
    shape: tuple[int, ...]
    """Shape of the chunk's fp32 tensors."""
    out: torch.Tensor | None = None
    """fp32, flat: where the update may be left; each chunk has it once."""


class Source(ctypes.Structure):
    """`source_t` of kernels.c."""

    _fields_ = (("data", POINTER), ("position", LONG), ("descriptor", INT), ("type", INT))


class Sources(ctypes.Structure):
    """`sources_t` of kernels.c."""

    _fields_ = (("base", Source), ("specialists", ctypes.POINTER(Source)), ("num_specialists", INT))


def source_of(values: torch.Tensor | Place) -> Source:
    """Return what a kernel reads; a tensor must be contiguous, on the CPU, and outlive the call."""
    number = dtype_number(values.dtype)
    assert number is not None
    if isinstance(values, Place):
        return Source(position=values.position, descriptor=values.descriptor, type=number)
    return Source(data=values.data_ptr(), type=number)


def sources_of(base: torch.Tensor | Place, specialists: Sequence[torch.Tensor | Place]) -> Sources:
    """Return what a kernel reads of all models."""
    packed = (Source * len(specialists))(*map(source_of, specialists))
    return Sources(base=source_of(base), specialists=packed, num_specialists=len(specialists))


def dtype_number(dtype: torch.dtype) -> int | None:
    """Return the number by which kernels.c knows a dtype, None if it does not."""
    import torch

    return {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}.get(dtype)


def short_file(sources: Iterable[torch.Tensor | Place], numel: int) -> CheckpointError:
    """Return the error of a kernel that could not read `numel` elements of each source."""
    places = [source for source in sources if isinstance(source, Place)]
    short = [
        place
        for place in places
        if os.fstat(place.descriptor).st_size < place.position + numel * place.dtype.itemsize
    ]
    where = (short or places)[0].path
    return CheckpointError(f"{where}: cannot be read to its end; fetch or save the model again")
