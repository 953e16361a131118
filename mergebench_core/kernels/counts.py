"""Counts of bit patterns, from which exact order statistics follow.

The order of non-negative fp32 numbers is the order of their bits read as integers, so that a magnitude's rank is
known from how many patterns are larger. The high 15 bits below the sign name a bucket of 65,536 patterns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mergebench_core.kernels.library import INT, POINTER, kernels
from mergebench_core.kernels.sources import StoredWeights, short_file, sources_of

if TYPE_CHECKING:
    import torch

NUM_BUCKETS = 1 << 15
BUCKET = 1 << 16
NUM_TABLES = 4
"""`TABLES` of kernels.c."""
MAX_COUNT = 2**32 - 1
"""What a counter of a table holds."""
MAX_BITS = 0x7FFFFFFF


class Counts(ctypes.Structure):
    """`counts_t` of kernels.c."""

    _fields_ = (
        ("tables", POINTER),
        ("starts", ctypes.POINTER(INT)),
        ("above", POINTER),
        ("low", POINTER),
        ("num_ranges", INT),
        ("span", INT),
    )


class BitCounts:
    """Counts of the magnitude bits of fp32 values, added up over chunks."""

    def __init__(self, buckets: Sequence[int] = (), width: int = 1, *, has_high: bool = False) -> None:
        """Count every pattern in `width` buckets from each of `buckets` on; `has_high`: and the size of all."""
        import torch

        self.num_values = 0
        self._starts = [bucket * BUCKET for bucket in buckets]
        self._span = width * BUCKET
        self._above = torch.zeros(len(buckets), dtype=torch.int64)
        self._low = torch.zeros(len(buckets), self._span, dtype=torch.int64)
        self._high = torch.zeros(NUM_BUCKETS, dtype=torch.int64) if has_high else None
        self._tables = torch.zeros(NUM_TABLES, NUM_BUCKETS, dtype=torch.int32) if has_high else None
        self._num_in_tables = 0

    def bits(self, rank: int) -> int | None:
        """Return the pattern of this rank, 1 for the largest; None if it lies in no counted bucket."""
        num_members = self._low.sum(1).tolist()
        for number, (start, above) in enumerate(zip(self._starts, self._above.tolist(), strict=True)):
            if above < rank <= above + num_members[number]:
                return start + _select(self._low[number], rank - above)
        return None

    def bucket(self, rank: int) -> int:
        """Return the bucket of the value of this rank; needs `has_high`."""
        assert self._high is not None
        self._empty_tables()
        return _select(self._high, rank)

    def add(self, values: torch.Tensor) -> None:
        """Count fp32 values."""
        library = kernels()
        if library is None:
            self._add_by_torch(values)
            return
        values = values.contiguous()
        packed = self.packed(values.numel())
        library.count_values(values.data_ptr(), values.numel(), ctypes.addressof(packed))

    def packed(self, numel: int) -> Counts:
        """Return what a kernel counts `numel` more values into."""
        if self._num_in_tables + numel > MAX_COUNT:
            self._empty_tables()
        self._num_in_tables += numel
        self.num_values += numel
        return Counts(
            tables=None if self._tables is None else self._tables.data_ptr(),
            starts=(INT * len(self._starts))(*self._starts),
            above=self._above.data_ptr(),
            low=self._low.data_ptr(),
            num_ranges=len(self._starts),
            span=self._span,
        )

    def merge(self, other: BitCounts) -> None:
        """Add the counts of another of the same kind."""
        self.num_values += other.num_values
        self._above += other._above
        self._low += other._low
        if self._high is not None and other._high is not None:
            other._empty_tables()
            self._high += other._high

    def _empty_tables(self) -> None:
        if self._num_in_tables and self._high is not None and self._tables is not None:
            self._high += (self._tables.long() & MAX_COUNT).sum(0)
            self._tables.zero_()
        self._num_in_tables = 0

    def _add_by_torch(self, values: torch.Tensor) -> None:
        import torch

        bits = values.reshape(-1).view(torch.int32) & MAX_BITS
        self.num_values += len(bits)
        if self._high is not None:
            self._high += torch.bincount(bits // BUCKET, minlength=NUM_BUCKETS)
        for number, start in enumerate(self._starts):
            end = min(start + self._span, MAX_BITS)
            self._above[number] += (bits >= end).sum()
            members = bits[(bits >= start) & (bits < end)] - start
            self._low[number] += torch.bincount(members, minlength=self._span)


def _select(counts: torch.Tensor, rank: int) -> int:
    """Return the bin that holds the value of this rank, counted from the largest."""
    import torch

    cumulative = counts.cumsum(0)
    return int(torch.searchsorted(cumulative, int(cumulative[-1]) - rank + 1))


def count_task_vectors(stored: StoredWeights, numel: int, counts: Mapping[str, BitCounts]) -> None:
    """Count each domain's task vector, its first `numel` elements, as weights are read; needs `kernels()`.

    Raises:
        CheckpointError: a file became shorter meanwhile.
    """
    library = kernels()
    assert library is not None
    packed = [counts[domain].packed(numel) for domain in stored.specialists.domains]
    array = (Counts * len(packed))(*packed)
    sources = sources_of(stored.base, list(stored.specialists))
    if library.count_task_vectors(ctypes.addressof(sources), numel, ctypes.addressof(array)) < 0:
        raise short_file([stored.base, *stored.specialists], numel)
