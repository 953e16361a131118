"""Singular vectors of task vectors, and polar factors of what is put together from them, all in float64.

Everything goes through the Gram matrix on the short side (`r x r`, `r = min(shape)`) and its eigenvectors, which
is several times faster than a singular value decomposition of an oblong matrix. Squaring loses nothing that an
fp32 decomposition would have: singular values `s` come out within about `2e-16 * s_1**2 / s`, an fp32
decomposition's within `1e-7 * s_1`, so this one is the better of the two for all `s` above `2e-9 * s_1`. What lies
below `sqrt(r * 2e-16) * s_1` cannot be told from rounding and counts as zero. An fp32 Gram matrix would not do: on
spectra with a few large values it moved the merged matrix by a tenth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

EPSILON = torch.finfo(torch.float64).eps
BLOCK = 256
"""Rows of a Gram matrix computed at once; only the blocks on and below its diagonal are."""


@dataclass(frozen=True, kw_only=True)
class Triples:
    """Singular triples, largest first, float64."""

    left: torch.Tensor
    """(rows, number), orthonormal columns."""
    values: torch.Tensor
    """(number,), above zero."""
    right: torch.Tensor
    """(columns, number), orthonormal columns."""


def float64(matrix: torch.Tensor) -> torch.Tensor:
    """Return the matrix in float64 where heavy work runs: on the GPU if there is one."""
    return matrix.to("cuda" if torch.cuda.is_available() else "cpu", torch.float64)


def mean_task_vector(tensor) -> torch.Tensor:
    """Return the mean of the task vectors: the update of everything that is no linear weight."""
    return sum(tensor.task_vectors) / len(tensor.task_vectors)


def leading_triples(matrix: torch.Tensor, number: int, source_norm: float = 0.0) -> Triples:
    """Return the `number` leading singular triples, fewer where the rank is lower.

    Args:
        matrix: (rows, columns), float64.
        number: how many at most.
        source_norm: Frobenius norm of what the matrix is the remainder of; content that small is rounding.
    """
    if matrix.shape[0] > matrix.shape[1]:
        found = leading_triples(matrix.mT, number, source_norm)
        return Triples(left=found.right, values=found.values, right=found.left)
    squares, vectors = torch.linalg.eigh(lower_gram(matrix))
    floor = EPSILON * max(len(squares) * float(squares[-1]), source_norm**2)
    start = len(squares) - min(number, int((squares > floor).sum()))
    values = squares[start:].flip(0).sqrt()
    left = vectors[:, start:].flip(1)
    return Triples(left=left, values=values, right=matrix.mT @ left / values)


def lower_gram(matrix: torch.Tensor) -> torch.Tensor:
    """Return the lower triangle of `matrix @ matrix.T`, all that `eigh` reads; above it lies nothing of use."""
    gram = matrix.new_zeros(matrix.shape[0], matrix.shape[0])
    for start in range(0, matrix.shape[0], BLOCK):
        gram[start:, start : start + BLOCK] = matrix[start:] @ matrix[start : start + BLOCK].mT
    return gram


def with_values(triples: Iterable[Triples], value: float) -> list[Triples]:
    """Return the triples with all their singular values replaced by one."""
    return [replace(part, values=torch.full_like(part.values, value)) for part in triples]


def recombine(triples: Sequence[Triples]) -> torch.Tensor:
    """Return `polar(U) diag(S) polar(V).T` for the triples put side by side; (rows, columns), float64.

    `polar(U) = U (U.T U)**(-1/2)` has the orthonormal columns nearest to those of `U`. Directions in which columns
    depend on one another get no share (the inverse root is a pseudo-inverse), so equal triples count once.
    """
    left = torch.cat([part.left for part in triples], dim=1)
    values = torch.cat([part.values for part in triples])
    right = torch.cat([part.right for part in triples], dim=1)
    if not len(values):
        return left @ right.mT
    left_vectors, left_scale = inverse_root(left)
    right_vectors, right_scale = inverse_root(right)
    core = left_scale[:, None] * ((left_vectors.mT * values) @ right_vectors) * right_scale
    return left @ (left_vectors @ core @ right_vectors.mT) @ right.mT


def inverse_root(columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `Q` (number, number) and `d` (number,) with `Q diag(d) Q.T = (columns.T columns)**(-1/2)`."""
    squares, vectors = torch.linalg.eigh(lower_gram(columns.mT))
    is_there = squares > len(squares) * EPSILON * squares[-1]
    return vectors, torch.where(is_there, squares, torch.inf).rsqrt()
