"""PCB-Merging by hand and against the released code's steps, written out densely in float64."""

from __future__ import annotations

import numpy as np
import pytest
from mergebench_frontier.pcb import score_levels
from update_samples import random_values, row_update, updates

CASES = {
    "the largest is clamped, the lower half weighs nothing": ([[1, 2, 3, 4]], 0.75, [0, 0, 3, 3]),
    "signs stay": ([[1, -2, 3, -4]], 0.75, [0, 0, 3, -3]),
    "opposite specialists": ([[1, 2, 3, 4], [-1, -2, -3, -4]], 0.5, [0, 0, 0, 0]),
    "equal magnitudes weigh the same": ([[2, -2, 2, 2]], 0.5, [2, -2, 2, 2]),
    "a specialist that is the base": ([[2, -2, 2, 2], [0, 0, 0, 0]], 0.5, [2, -2, 2, 2]),
    "all are the base": ([[0, 0], [0, 0]], 0.5, [0, 0]),
    "one element": ([[3]], 0.1, [3]),
}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(bench, tmp_path, case):
    rows, density, expected = CASES[case]
    config = {"density": density, "scaling_coefficient": 1.0}
    assert row_update(bench, tmp_path, "pcb", config, rows) == pytest.approx(expected)


def sorted_clamp(values: np.ndarray, low_fraction: float, high_fraction: float) -> np.ndarray:
    ascending = np.sort(values)
    low = ascending[int(values.size * low_fraction)]
    return values.clip(low, ascending[int(values.size * (1 - high_fraction) - 1)])


def minmax(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def reference(vectors: list[np.ndarray], density: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the update of flat vectors, and what their entries weigh."""
    vectors = [vector.astype(np.float64) for vector in vectors]
    shares, entries = [], []
    for vector in vectors:
        magnitude = sorted_clamp(np.abs(vector), 0.0001, 0.0001)
        score = np.exp(len(vectors) * minmax(magnitude) ** 2) * np.tanh(vector * sum(vectors))
        shares.append(minmax(sorted_clamp(score, 1 - density, 0)))
        entries.append(np.sign(vector) * magnitude)
    weighted = sum(share * entry for share, entry in zip(shares, entries, strict=True))
    return weighted / np.maximum(sum(shares), 1e-12), shares


@pytest.mark.parametrize("density", [0.05, 0.2, 0.9, 1.0])
def test_equals_the_reference(bench, tmp_path, density):
    """Large enough that clamping changes something; at 0.9 and 1 the quantile of the scores is negative."""
    shapes = {"model.layers.0.mlp.up_proj.weight": (150, 200), "model.norm.weight": (200,)}
    vectors = [random_values(seed, shapes) for seed in range(3)]
    config = {"density": density, "scaling_coefficient": 1.0}
    found = updates(bench, tmp_path, "pcb", config, vectors, chunk_numel=7000)
    flat = [np.concatenate([vector[name].ravel() for name in shapes]) for vector in vectors]
    expected, shares = reference(flat, density)
    update = np.concatenate([found[name].ravel() for name in shapes])
    np.testing.assert_allclose(update, expected, rtol=1e-5, atol=1e-5)
    for vector, share in zip(flat, shares, strict=True):
        assert (share > 0).sum() == vector.size - int(vector.size * (1 - density)) - 1


def test_levels_are_told_from_both_signs():
    """Scores 3, 1, -2, -5: the third largest is -2; where all are negative, the largest is too."""
    assert score_levels([3.0, 0.0, 0.0, 0.0], [5.0, 5.0, 0.0, 2.0]) == [3.0, -2.0]
    assert score_levels([0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 1.0, 2.0]) == [-1.0, -2.0]
    assert score_levels([3.0, 1.0, 0.0, 0.0], [5.0, 5.0, 0.0, 0.0]) == [3.0, 1.0]
