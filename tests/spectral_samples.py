"""Task vectors in hand, as a worker would give them, and singular value decompositions by numpy alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from mergebench_core.methods import PerDomain


def tensor_of(vectors, role: str = "linear"):
    """Return a weight in hand with these task vectors, in fp32."""
    named = {
        f"domain{number}": torch.tensor(np.asarray(vector, np.float32)) for number, vector in enumerate(vectors)
    }
    return SimpleNamespace(role=role, base=torch.zeros_like(named["domain0"]), task_vectors=PerDomain(named))


def update(method, vectors, config=None, role: str = "linear") -> np.ndarray:
    """Return the method's update in float64, checked for form."""
    found = method.update(tensor_of(vectors, role), config or {}, None)
    assert found.dtype == torch.float32
    assert found.shape == np.shape(vectors[0])
    return found.double().cpu().numpy()


def random_vectors(number: int, shape: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Return task vectors as they come out of bf16 checkpoints, with a spectrum that falls off."""
    generator = np.random.default_rng(seed)
    rank = min(shape)
    strength = 1e-3 * (1 + 20 / np.arange(1, rank + 1) ** 2)
    found = []
    for _ in range(number):
        left, _, right = np.linalg.svd(generator.standard_normal(shape), full_matrices=False)
        vector = torch.from_numpy((left * strength) @ right)
        found.append(vector.to(torch.bfloat16).double().numpy())
    return found


def polar(matrix: np.ndarray) -> np.ndarray:
    """Return the polar factor: singular values all made 1."""
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
