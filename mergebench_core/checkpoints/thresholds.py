"""Exact order statistics of non-negative values over a whole model or per tensor, by radix select on bit patterns.

The order of non-negative fp32 numbers is the order of their bits read as integers. A first pass counts the high
15 bits below the sign, a second one the low 16 bits of the members of those buckets that hold a wanted rank: a few
histograms, whatever the model's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mergebench_core.errors import InputError
from mergebench_core.hyperparameters import Hyperparameter
from mergebench_core.methods import Context, TensorChunk

if TYPE_CHECKING:
    import torch

HIGH_BINS = 1 << 15
LOW_BINS = 1 << 16

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
        context: the method's context; its chunks are walked twice.
        density: fraction kept, in (0, 1].

    Raises:
        InputError: density out of range.
    """
    found = order_statistics(context.chunks, task_vector_values, lambda numel: [kept_rank(density, numel)])
    return {domain: threshold for domain, (threshold,) in found.items()}


def tensor_order_statistics(context: Context, values: Values, ranks: Ranks) -> dict[str, dict[str, list[float]]]:
    """Return, by tensor name and label, the magnitudes at the wanted ranks within each merged tensor."""
    return {
        name: order_statistics(partial(context.chunks, [name]), values, ranks) for name in context.merged_names
    }


def order_statistics(chunks: Chunks, values: Values, ranks: Ranks) -> dict[str, list[float]]:
    """Return, by label, the magnitudes at the wanted ranks over all chunks; they are walked twice."""
    high = _high_counts(chunks, values)
    selected = {
        label: [_select(counts, rank) for rank in ranks(int(counts.sum()))] for label, counts in high.items()
    }
    low = _low_counts(
        chunks, values, {label: {bucket for bucket, _ in found} for label, found in selected.items()}
    )
    return {
        label: [_float_of(bucket << 16 | _select(low[label, bucket], rank)[0]) for bucket, rank in found]
        for label, found in selected.items()
    }


def _high_counts(chunks: Chunks, values: Values) -> dict[str, torch.Tensor]:
    """Count the high magnitude bits of every label's values."""
    import torch

    totals: dict[str, torch.Tensor] = {}
    for chunk in chunks():
        for label, vector in values(chunk).items():
            counts = torch.bincount(_magnitude_bits(vector) >> 16, minlength=HIGH_BINS)
            totals[label] = totals[label] + counts if label in totals else counts
    return totals


def _low_counts(
    chunks: Chunks, values: Values, buckets: Mapping[str, set[int]]
) -> dict[tuple[str, int], torch.Tensor]:
    """Count the low magnitude bits within every wanted bucket of a label."""
    import torch

    totals = {
        (label, bucket): torch.zeros(LOW_BINS, dtype=torch.int64)
        for label, wanted in buckets.items()
        for bucket in wanted
    }
    for chunk in chunks():
        for label, vector in values(chunk).items():
            bits = _magnitude_bits(vector)
            for bucket in buckets[label]:
                totals[label, bucket] += torch.bincount(
                    (bits & 0xFFFF)[(bits >> 16) == bucket], minlength=LOW_BINS
                )
    return totals


def _magnitude_bits(values: torch.Tensor) -> torch.Tensor:
    import torch

    return values.reshape(-1).view(torch.int32) & 0x7FFFFFFF


def _select(counts: torch.Tensor, rank: int) -> tuple[int, int]:
    """Return the bin that holds the value of this rank, counted from the largest, and its rank within the bin."""
    import torch

    cumulative = counts.cumsum(0)
    from_smallest = int(cumulative[-1]) - rank + 1
    index = int(torch.searchsorted(cumulative, from_smallest))
    return index, int(cumulative[index]) - from_smallest + 1


def _float_of(bits: int) -> float:
    import torch

    return float(torch.tensor([bits], dtype=torch.int32).view(torch.float32))
