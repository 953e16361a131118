"""SCE by hand and against a dense reference."""

from __future__ import annotations

import numpy as np
import pytest
from update_samples import random_values, row_update, updates

CASES = {
    "weights are shares of the squares": ([[2, 4], [2, 2]], 1.0, [2, (20 * 4 + 8 * 2) / 28]),
    "minority signs go": ([[3, 1], [-2, 1]], 1.0, [3, 1]),
    "the sign of the sum is elected, not of the majority": ([[5, 1], [-2, 1], [-2, 1]], 1.0, [5, 1]),
    "a zero sum leaves the base": ([[3, 2], [-3, 2]], 1.0, [0, 2]),
    "half of what varies is selected": ([[4, 1, 1, 7], [0, 0.5, 1, 7]], 0.5, [4, 0, 0, 0]),
    "weights are of the selected": ([[4, 1, 9], [2, 0.5, 9]], 0.5, [(16 * 4 + 4 * 2) / 20, 0, 0]),
    "ties are selected": ([[4, 3, 1], [2, 1, 1]], 0.5, [(25 * 4 + 5 * 2) / 30, (25 * 3 + 5 * 1) / 30, 0]),
    "nothing selected": ([[4, 3], [2, 1.5]], 0.2, [0, 0]),
    "identical specialists, selected": ([[0.9, 1.7, 1.8, 2.9]] * 3, 0.9, [0, 0, 0, 0]),
    "identical specialists, all": ([[0.5, 3.25]] * 3, 1.0, [0.5, 3.25]),
    "one specialist": ([[0.5, 3.25]], 1.0, [0.5, 3.25]),
    "a specialist that is the base": ([[0.5, 3.25], [0, 0]], 1.0, [0.5, 3.25]),
    "all are the base": ([[0, 0], [0, 0]], 0.5, [0, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(bench, tmp_path, case):
    rows, density, expected = CASES[case]
    assert row_update(bench, tmp_path, "sce", {"density": density}, rows) == pytest.approx(expected)


def reference(vectors: list[np.ndarray], density: float) -> np.ndarray:
    """Select places one by one in the order of their variance, then merge place by place."""
    stack = np.stack([vector.astype(np.float64).ravel() for vector in vectors])
    spread = stack.var(axis=0)
    chosen = sorted(range(spread.size), key=lambda place: -spread[place])[
        : int(density * np.count_nonzero(spread))
    ]
    selected = np.zeros_like(stack)
    selected[:, chosen] = stack[:, chosen]
    shares = (selected**2).mean(axis=1)
    merged = np.zeros(spread.size)
    for place in chosen:
        column = selected[:, place]
        agrees = np.sign(column) == np.sign(column.sum())
        merged[place] = (shares * column * agrees).sum() / (shares * agrees).sum()
    return merged.reshape(vectors[0].shape)


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_equals_the_reference(bench, tmp_path, density):
    vectors = [random_values(seed) for seed in range(4)]
    for name, update in updates(bench, tmp_path, "sce", {"density": density}, vectors).items():
        expected = reference([vector[name] for vector in vectors], density)
        np.testing.assert_allclose(update, expected, rtol=1e-5)
        assert (update != 0).sum() == int(density * update.size)
