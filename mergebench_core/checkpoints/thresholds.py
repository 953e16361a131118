"""Exact order statistics of non-negative values over a whole model or per tensor, by radix select on bit patterns.

Counting all patterns of bits in the bucket that holds a rank, and how many values lie above it, tells the value:
one pass and a few tables, whatever the model's size. A sample foretells the bucket.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.threads import map_in_order
from mergebench_core.errors import InputError
from mergebench_core.hyperparameters import Hyperparameter
from mergebench_core.kernels.counts import BitCounts, count_task_vectors
from mergebench_core.kernels.library import kernels
from mergebench_core.kernels.sources import StoredWeights
from mergebench_core.methods import Context, TensorChunk

if TYPE_CHECKING:
    import torch

WIDTH = 3
"""Buckets around a foretold one that are counted."""
SAMPLE_NUMEL = 1 << 14
"""Elements at the start of each chunk from which the buckets of task vectors are foretold."""
MAX_SAMPLE = 16
"""Whole chunks from which those of other values are."""

Values = Callable[[TensorChunk], Mapping[str, "torch.Tensor"]]
"""Returns, by label, fp32 values of a chunk; their magnitudes are ranked, label by label."""
Ranks = Callable[[int], Sequence[int]]
"""Returns the wanted ranks among so many values; 1 is the largest."""
Chunks = Callable[[], Iterable[TensorChunk]]
"""Returns the chunks to count, the same ones at every call."""


def task_vector_values(chunk: TensorChunk) -> Mapping[str, torch.Tensor]:
    """Return the task vectors of a chunk by domain."""
    return dict(chunk.task_vectors.items())


def kept_rank(density: Hyperparameter, numel: int) -> int:
    """Return the rank of the smallest of the `int(density * numel)` largest values, at least 1.

    Raises:
        InputError: density out of (0, 1].
    """
    fraction = float(density)
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"density is {density}; give the fraction kept, above 0 and up to 1")
    return max(1, int(fraction * numel))


def magnitude_thresholds(context: Context, density: Hyperparameter) -> dict[str, float]:
    """Return, by domain, the magnitude that the `int(density * d)` largest entries of a task vector reach.

    `d` counts the elements of all tensors that the method's policy merges, taken as one vector. Entries equal to
    the threshold are kept too, so `|x| >= threshold` keeps at least that many.

    Args:
        context: the method's context; its chunks are walked once, and a sample of them before.
        density: fraction kept, in (0, 1].

    Raises:
        InputError: density out of range.
    """
    found = order_statistics(context.chunks, task_vector_values, lambda numel: [kept_rank(density, numel)])
    return {domain: threshold for domain, (threshold,) in found.items()}


def tensor_order_statistics(context: Context, values: Values, ranks: Ranks) -> dict[str, dict[str, list[float]]]:
    """Return, by tensor name and label, the magnitudes at the wanted ranks within each merged tensor.

    Each tensor is walked twice, for its buckets and for the values in them; threads take a tensor each.
    """
    import torch

    def statistics(name: str) -> dict[str, list[float]]:
        counts = _exactly(partial(context.chunks, [name]), values, ranks, num_threads=1)
        return _values(counts, ranks)

    names = context.merged_names
    return dict(zip(names, map_in_order(statistics, names, torch.get_num_threads()), strict=True))


def order_statistics(chunks: Chunks, values: Values, ranks: Ranks) -> dict[str, list[float]]:
    """Return, by label, the magnitudes at the wanted ranks over all chunks.

    One pass suffices if the sample foretells the buckets of the wanted ranks; if not,
    one pass finds the buckets and another the values. The result is exact either way.
    """
    import torch

    foretold = {
        label: sorted({max(0, bucket - WIDTH // 2) for bucket in _buckets(counts, ranks)})
        for label, counts in _sample(chunks, values).items()
    }
    num_threads = torch.get_num_threads()
    counts = _counts(chunks, values, lambda label: BitCounts(foretold.get(label, ()), WIDTH), num_threads)
    if any(None in _bits(found, ranks) for found in counts.values()):
        counts = _exactly(chunks, values, ranks, num_threads)
    return _values(counts, ranks)


def _values(counts: Tally, ranks: Ranks) -> dict[str, list[float]]:
    return {label: [_float_of(bits) for bits in _bits(found, ranks)] for label, found in counts.items()}


def _bits(counts: BitCounts, ranks: Ranks) -> list[int | None]:
    return [counts.bits(rank) for rank in ranks(counts.num_values)]


def _buckets(counts: BitCounts, ranks: Ranks) -> set[int]:
    return {counts.bucket(rank) for rank in ranks(counts.num_values)}


def _sample(chunks: Chunks, values: Values) -> Tally:
    """Count the buckets of a sample of the values."""
    tally = Tally(lambda label: BitCounts(has_high=True))
    if _are_read_by_kernels(next(iter(chunks()), None), values):
        for chunk in chunks():
            tally.count(chunk, values, SAMPLE_NUMEL)
        return tally
    step = max(8, sum(1 for _ in chunks()) // MAX_SAMPLE)
    for chunk in islice(chunks(), 0, None, step):
        tally.count(chunk, values)
    return tally


def _are_read_by_kernels(chunk: TensorChunk | None, values: Values) -> bool:
    return values is task_vector_values and kernels() is not None and hasattr(chunk, "stored")


def _exactly(chunks: Chunks, values: Values, ranks: Ranks, num_threads: int) -> Tally:
    """Count the very buckets that hold the wanted ranks."""
    all_buckets = _counts(chunks, values, lambda label: BitCounts(has_high=True), num_threads)
    wanted = {label: sorted(_buckets(counts, ranks)) for label, counts in all_buckets.items()}
    return _counts(chunks, values, lambda label: BitCounts(wanted[label]), num_threads)


class Tally(dict[str, BitCounts]):
    """Counts by label, made when first asked for."""

    def __init__(self, make: Callable[[str], BitCounts]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, label: str) -> BitCounts:
        self[label] = self._make(label)
        return self[label]

    def count(self, chunk: TensorChunk, values: Values, max_numel: int | None = None) -> None:
        """Count the values of a chunk; of task vectors, counted while they are read, `max_numel` at most."""
        if _are_read_by_kernels(chunk, values):
            stored: StoredWeights = chunk.stored  # type: ignore[attr-defined]
            count_task_vectors(stored, min(stored.numel, max_numel or stored.numel), self)
            return
        for label, part in values(chunk).items():
            self[label].add(part)

    def merge(self, other: Tally) -> None:
        """Add the counts of another."""
        for label, counts in other.items():
            self[label].merge(counts)


def _counts(chunks: Chunks, values: Values, make: Callable[[str], BitCounts], num_threads: int) -> Tally:
    """Count all chunks by label, each thread for itself, then together."""
    own = threading.local()
    tallies: list[Tally] = []

    def count(chunk: TensorChunk) -> None:
        if not hasattr(own, "tally"):
            own.tally = Tally(make)
            tallies.append(own.tally)
        own.tally.count(chunk, values)

    for _ in map_in_order(count, chunks(), num_threads):
        pass
    total = tallies[0] if tallies else Tally(make)
    for tally in tallies[1:]:
        total.merge(tally)
    return total


def _float_of(bits: int | None) -> float:
    import torch

    assert bits is not None
    return float(torch.tensor([bits], dtype=torch.int32).view(torch.float32))
