"""Exact global magnitude thresholds of task vectors, by radix select over bit patterns.

The order of non-negative fp32 numbers is the order of their bits read as integers. A first pass counts the high
15 magnitude bits, a second one the low 16 bits of the members of the one bucket that holds the threshold: two
histograms per task vector, whatever the model's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergebench_core.errors import InputError
from mergebench_core.hyperparameters import Hyperparameter
from mergebench_core.methods import Context

if TYPE_CHECKING:
    import torch

HIGH_BINS = 1 << 15
LOW_BINS = 1 << 16


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
    fraction = float(density)
    if not 0.0 < fraction <= 1.0:
        raise InputError(f"density is {density}; give the fraction kept, above 0 and up to 1")
    high = _histograms(context, None)
    selected = {domain: _select(counts, _rank(counts, fraction)) for domain, counts in high.items()}
    low = _histograms(context, {domain: bucket for domain, (bucket, _) in selected.items()})
    return {
        domain: _float_of(bucket << 16 | _select(low[domain], rank)[0])
        for domain, (bucket, rank) in selected.items()
    }


def _histograms(context: Context, buckets: dict[str, int] | None) -> dict[str, torch.Tensor]:
    """Count high magnitude bits, or, within the given bucket of each domain, low ones."""
    import torch

    totals: dict[str, torch.Tensor] = {}
    for chunk in context.chunks():
        for domain, vector in chunk.task_vectors.items():
            bits = vector.reshape(-1).view(torch.int32) & 0x7FFFFFFF
            if buckets is None:
                counts = torch.bincount(bits >> 16, minlength=HIGH_BINS)
            else:
                counts = torch.bincount((bits & 0xFFFF)[(bits >> 16) == buckets[domain]], minlength=LOW_BINS)
            totals[domain] = totals[domain] + counts if domain in totals else counts
    return totals


def _rank(counts: torch.Tensor, density: float) -> int:
    """Return the 1-based rank, counted from the smallest, of the smallest entry that is kept."""
    total = int(counts.sum())
    return total - max(1, int(density * total)) + 1


def _select(counts: torch.Tensor, rank: int) -> tuple[int, int]:
    """Return the bin that holds the entry of this rank, and its rank within the bin."""
    import torch

    cumulative = counts.cumsum(0)
    index = int(torch.searchsorted(cumulative, rank))
    return index, rank - int(cumulative[index] - counts[index])


def _float_of(bits: int) -> float:
    import torch

    return float(torch.tensor([bits], dtype=torch.int32).view(torch.float32))
