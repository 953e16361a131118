"""Kernels on plain values: rounding an update into the base, finiteness, counting bit patterns."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergebench_core.kernels.library import kernels

if TYPE_CHECKING:
    import torch

HIGH_BINS = 1 << 15
LOW_BINS = 1 << 16
NUM_TABLES = 4
"""`TABLES` of kernels.c."""


def merged_values(base: torch.Tensor, update: torch.Tensor, coefficient: float) -> torch.Tensor:
    """Return `round(base + coefficient * update)`: an fp32 product, an fp32 sum, one rounding to the base's dtype.

    Product and sum stay separate operations: a fused multiply-add would round once less on some processors.
    `update` may lie in memory that another process writes; what is returned is a copy.
    """
    import torch

    library, number = kernels(), dtype_number(base)
    if library is None or number is None:
        return (update * coefficient).add_(base.float()).to(base.dtype)
    out = torch.empty_like(base)
    library.apply_update(base.data_ptr(), number, update.data_ptr(), coefficient, base.numel(), out.data_ptr())
    return out


def is_finite(values: torch.Tensor) -> bool:
    """Return whether a contiguous CPU tensor holds neither NaN nor infinity."""
    library, number = kernels(), dtype_number(values)
    if library is None or number is None:
        return bool((values * 0).sum() == 0)
    return bool(library.all_finite(values.data_ptr(), number, values.numel()))


def dtype_number(values: torch.Tensor) -> int | None:
    """Return the number by which kernels.c knows the dtype, None if it does not."""
    import torch

    return {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}.get(values.dtype)


class BitCounts:
    """Counts of magnitude bit patterns of fp32 values: all high halves, and the low halves within a few buckets.

    The order of non-negative fp32 numbers is the order of their bits read as integers; a bucket holds those with
    the same high 15 bits below the sign.
    """

    def __init__(self, firsts: Sequence[int] = (), width: int = 1) -> None:
        """Count low halves of `width` buckets from each of `firsts` on."""
        import torch

        self.firsts, self.width = tuple(firsts), width
        self.high = torch.zeros(HIGH_BINS, dtype=torch.int64)
        self.low = torch.zeros(len(firsts) * width, LOW_BINS, dtype=torch.int64)
        self._tables = torch.empty(NUM_TABLES, HIGH_BINS, dtype=torch.int32)

    def add(self, values: torch.Tensor) -> None:
        """Count contiguous fp32 values."""
        library = kernels()
        if library is None:
            self._add_by_torch(values)
            return
        firsts = (ctypes.c_int32 * len(self.firsts))(*self.firsts)
        library.count_bits(
            values.data_ptr(), values.numel(), self.high.data_ptr(), self._tables.data_ptr(), firsts, len(firsts),
            self.width, self.low.data_ptr(),
        )  # fmt: skip

    def _add_by_torch(self, values: torch.Tensor) -> None:
        import torch

        bits = values.reshape(-1).view(torch.int32) & 0x7FFFFFFF
        high = bits >> 16
        self.high += torch.bincount(high, minlength=HIGH_BINS)
        for number, first in enumerate(self.firsts):
            for window in range(self.width):
                members = (bits & 0xFFFF)[high == first + window]
                self.low[number * self.width + window] += torch.bincount(members, minlength=LOW_BINS)

    def merge(self, other: BitCounts) -> None:
        """Add the counts of another with the same buckets."""
        self.high += other.high
        self.low += other.low

    def low_of(self, bucket: int) -> torch.Tensor | None:
        """Return the counts of low halves within a bucket, None if they were not counted."""
        for number, first in enumerate(self.firsts):
            if 0 <= bucket - first < self.width:
                return self.low[number * self.width + bucket - first]
        return None
