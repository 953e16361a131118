"""Exact order statistics of non-negative values over a whole model or per tensor, by radix select on bit patterns.

The order of non-negative fp32 numbers is the order of their bits read as integers. Counting the high 15 bits below
the sign tells the bucket of a rank; counting the low 16 bits of the members of that bucket tells the value: a few
histograms, whatever the model's size.
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
from mergebench_core.kernels.weights import BitCounts
from mergebench_core.methods import Context, TensorChunk

if TYPE_CHECKING:
    import torch

WIDTH = 3
"""Buckets around a foretold one whose members are told apart in the first pass."""
MAX_SAMPLE = 16
"""Chunks from which the buckets are foretold."""

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
    """Return, by label, the magnitudes at the wanted ranks over all chunks.

    One pass suffices if a sample foretells the buckets of the wanted ranks, which it nearly always does; a second
    one counts those that it missed. The result is exact either way.
    """
    counts = _counts(chunks, values, _foretold(chunks, values, ranks), WIDTH)
    selected = {
        label: [_select(found.high, rank) for rank in ranks(int(found.high.sum()))]
        for label, found in counts.items()
    }
    missed = {
        label: {bucket for bucket, _ in places if counts[label].low_of(bucket) is None}
        for label, places in selected.items()
    }
    again = _counts(chunks, values, missed, 1) if any(missed.values()) else {}
    return {
        label: [_value(bucket, rank, counts[label], again.get(label)) for bucket, rank in places]
        for label, places in selected.items()
    }


def _value(bucket: int, rank: int, *counts: BitCounts | None) -> float:
    """Return the value of this rank within a bucket."""
    lows = [low for found in counts if found is not None and (low := found.low_of(bucket)) is not None]
    return _float_of(bucket << 16 | _select(lows[0], rank)[0])


def _foretold(chunks: Chunks, values: Values, ranks: Ranks) -> dict[str, set[int]]:
    """Return, by label, the first of `WIDTH` buckets around each wanted rank of a sample of the chunks."""
    step = max(8, sum(1 for _ in chunks()) // MAX_SAMPLE)
    counts = _counts(lambda: islice(chunks(), 0, None, step), values, {}, 1)
    return {
        label: {max(0, _select(found.high, rank)[0] - WIDTH // 2) for rank in ranks(int(found.high.sum()))}
        for label, found in counts.items()
        if int(found.high.sum())
    }


def _counts(chunks: Chunks, values: Values, firsts: Mapping[str, set[int]], width: int) -> dict[str, BitCounts]:
    """Count all chunks by label, each thread for itself, then together."""
    import torch

    own = threading.local()
    counted: list[dict[str, BitCounts]] = []

    def count(chunk: TensorChunk) -> None:
        if not hasattr(own, "counts"):
            own.counts = {}
            counted.append(own.counts)
        for label, part in values(chunk).items():
            if label not in own.counts:
                own.counts[label] = BitCounts(sorted(firsts.get(label, ())), width)
            own.counts[label].add(part)

    for _ in map_in_order(count, chunks(), torch.get_num_threads()):
        pass
    totals: dict[str, BitCounts] = {}
    for found in counted:
        for label, part in found.items():
            if label in totals:
                totals[label].merge(part)
            else:
                totals[label] = part
    return totals


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
