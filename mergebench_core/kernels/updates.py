"""Fused updates of elementwise methods: one pass over the stored weights, bit for bit what torch gives.

Every function takes a `TensorChunk` and returns an fp32 tensor shaped like `chunk.base`. Where kernels were built
and the chunk knows its weights as they are stored, compiled code does it; torch otherwise.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mergebench_core.kernels.library import kernels
from mergebench_core.kernels.sources import StoredWeights, dtype_number, short_file, sources_of
from mergebench_core.methods import TensorChunk

if TYPE_CHECKING:
    import torch

Bounds = Mapping[str, float]
"""A magnitude by domain."""
RANDOM_LEVELS = 1 << 16
"""Random numbers come in steps of 2**-16."""


def sum_of_task_vectors(chunk: TensorChunk) -> torch.Tensor:
    """Return the sum of the task vectors."""
    return _kept(chunk, None, None, is_mean=False)


def mean_of_task_vectors(chunk: TensorChunk) -> torch.Tensor:
    """Return the mean of the task vectors."""
    return _kept(chunk, None, None, is_mean=True)


def kept_sum(chunk: TensorChunk, *, low: Bounds, high: Bounds | None = None) -> torch.Tensor:
    """Return the sum of the entries with `low <= |entry| <= high`."""
    return _kept(chunk, low, high, is_mean=False)


def kept_mean(chunk: TensorChunk, *, low: Bounds) -> torch.Tensor:
    """Return, per position, the mean of the non-zero entries with `|entry| >= low`; 0 where there is none."""
    return _kept(chunk, low, None, is_mean=True)


def _kept(chunk: TensorChunk, low: Bounds | None, high: Bounds | None, *, is_mean: bool) -> torch.Tensor:
    stored, library = _compilable(chunk)
    if stored is None:
        return _kept_by_torch(chunk, low, high, is_mean=is_mean)
    domains = stored.specialists.domains
    bounds = [None if side is None else _floats([side[domain] for domain in domains]) for side in (low, high)]
    return _run(library.kept_sum, stored, *bounds, int(is_mean))


def _kept_by_torch(chunk: TensorChunk, low: Bounds | None, high: Bounds | None, *, is_mean: bool) -> torch.Tensor:
    import torch

    total, count = _zeros(chunk), _zeros(chunk)
    for domain, vector in chunk.task_vectors.items():
        keep = torch.ones_like(vector)
        if low is not None:
            keep = keep * (vector.abs() >= low[domain])
        if high is not None:
            keep = keep * (vector.abs() <= high[domain])
        total += vector * keep
        count += keep if low is None and high is None else (vector * keep) != 0
    return total / count.clamp(min=1) if is_mean else total


def elected_mean(chunk: TensorChunk, *, low: Bounds) -> torch.Tensor:
    """Return the mean of the entries with `|entry| >= low` that have the sign of their sum (arXiv:2306.01708)."""
    stored, library = _compilable(chunk)
    if stored is None:
        return _elected_by_torch(chunk, low)
    return _run(library.elected_mean, stored, _floats([low[domain] for domain in stored.specialists.domains]))


def _elected_by_torch(chunk: TensorChunk, low: Bounds) -> torch.Tensor:

    trimmed = [vector * (vector.abs() >= low[domain]) for domain, vector in chunk.task_vectors.items()]
    elected = sum(trimmed, _zeros(chunk)).sign()
    total, count = _zeros(chunk), _zeros(chunk)
    for vector in trimmed:
        agreeing = vector * (vector.sign() == elected)
        total += agreeing
        count += agreeing != 0
    return total / count.clamp(min=1)


def random_sum(chunk: TensorChunk, *, density: float) -> torch.Tensor:
    """Return the sum of task vectors of which a random fraction is kept and scaled up (arXiv:2311.03099).

    `density` is rounded to a multiple of 2**-16, at least one; the sum is divided by what it was rounded to.
    """
    level = max(1, round(density * RANDOM_LEVELS))
    stored, library = _compilable(chunk)
    if stored is None:
        return _random_by_torch(chunk, level)
    keys = [half for key in stored.random_keys for half in (key & (2**64 - 1), key >> 64)]
    packed = (ctypes.c_uint64 * len(keys))(*keys)
    return _run(library.random_sum, stored, packed, chunk.offset, level, level / RANDOM_LEVELS)


def _random_by_torch(chunk: TensorChunk, level: int) -> torch.Tensor:

    total = _zeros(chunk)
    for domain, vector in chunk.task_vectors.items():
        total += vector * (chunk.random(domain) < level / RANDOM_LEVELS)
    return total / (level / RANDOM_LEVELS)


def consensus_sum(chunk: TensorChunk, *, thresholds: Bounds, least_votes: int, only: str | None) -> torch.Tensor:
    """Return the sum of task vectors where masks agree, 0 elsewhere (arXiv:2405.07813).

    The mask of a task vector is set where `|entry| >= threshold * |sum - entry|`.

    Args:
        chunk: the weights.
        thresholds: by domain.
        least_votes: how many masks must be set.
        only: the domain whose mask alone counts; None for all.
    """
    stored, library = _compilable(chunk)
    if stored is None:
        return _consensus_by_torch(chunk, thresholds, least_votes, only)
    domains = stored.specialists.domains
    index = -1 if only is None else domains.index(only)
    packed = _floats([thresholds[domain] for domain in domains])
    return _run(library.consensus_sum, stored, packed, least_votes, index)


def _consensus_by_torch(
    chunk: TensorChunk, thresholds: Bounds, least_votes: int, only: str | None
) -> torch.Tensor:
    import torch

    total = sum(chunk.task_vectors, _zeros(chunk))
    votes = torch.zeros_like(total)
    for domain, vector in chunk.task_vectors.items():
        if only is None or domain == only:
            votes += vector.abs() >= (total - vector).abs() * thresholds[domain]
    return total * (votes >= (least_votes if only is None else 1))


def _zeros(chunk: TensorChunk) -> torch.Tensor:
    import torch

    return torch.zeros_like(next(iter(chunk.task_vectors)))


def _compilable(chunk: TensorChunk) -> tuple[StoredWeights | None, Any]:
    """Return the stored weights and the library, or neither."""
    library = kernels()
    stored = None if library is None else getattr(chunk, "stored", None)
    return (None, None) if stored is None else (stored, library)


def task_vector(base: torch.Tensor, specialist: torch.Tensor) -> torch.Tensor:
    """Return the fp32 difference of two flat CPU tensors of any floating dtypes."""
    import torch

    library = kernels()
    if library is None or dtype_number(base.dtype) is None or dtype_number(specialist.dtype) is None:
        return specialist.float() - base.float()
    out = torch.empty(base.numel())
    sources = sources_of(base, [specialist])
    library.task_vector(ctypes.addressof(sources), base.numel(), out.data_ptr())
    return out


def _run(function: Callable[..., int], stored: StoredWeights, *arguments: object) -> torch.Tensor:
    import torch

    out = torch.empty(stored.numel) if stored.out is None else stored.out
    sources = sources_of(stored.base, list(stored.specialists))
    if function(ctypes.addressof(sources), stored.numel, *arguments, out.data_ptr()) < 0:
        raise short_file([stored.base, *stored.specialists], stored.numel)
    return out.view(stored.shape)


def _floats(values: Sequence[float]) -> ctypes.Array[ctypes.c_float]:
    return (ctypes.c_float * len(values))(*values)
