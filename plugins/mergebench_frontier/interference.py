"""The objective of WUDI-Merging (arXiv:2503.08099) for one linear weight, and its normal equations.

`loss(tau) = sum_t |(tau - tau_t) tau_t^T|_F^2 / |tau_t|_F^2` is quadratic in `tau`, with gradient
`2 (tau C - B)`, `C = sum_t A_t`, `B = sum_t tau_t A_t`, `A_t = tau_t^T tau_t / |tau_t|_F^2`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

EPSILON = torch.finfo(torch.float64).eps


def normal_equations(task_vectors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `C` (in, in) and `B` (out, in), float64, on the GPU if there is one; `tau C = B` at the minimum.

    A task vector of zeros asks for nothing and is passed over.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    num_outputs, num_inputs = task_vectors[0].shape
    curvature = torch.zeros(num_inputs, num_inputs, dtype=torch.float64, device=device)
    target = torch.zeros(num_outputs, num_inputs, dtype=torch.float64, device=device)
    for vector in (given.to(device, torch.float64) for given in task_vectors if given.any()):
        share = vector.mT @ (vector / vector.square().sum())
        curvature += share
        target += vector @ share
    return curvature, target


def minimiser(curvature: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return `B C^+`: of all minimisers the one of smallest norm, (out, in) in float64.

    Directions of the input that no task vector reaches stay zero, as they are in the sum of task vectors from
    which the paper's descent starts. Eigenvalues below `in * 2e-16` of the largest count as zero.
    """
    values, vectors = torch.linalg.eigh(curvature)
    is_there = values > len(values) * EPSILON * values[-1]
    return ((target @ vectors) / torch.where(is_there, values, torch.inf)) @ vectors.mT
