"""Model Stock by hand and against a dense reference over all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from update_samples import random_values, row_update, updates

CASES = {
    "right angle: the base": ([[1, 0], [0, 1]], [0, 0]),
    "sixty degrees: two thirds": ([[2, 0, 0, 0], [1, 1, 1, 1]], [1, 1 / 3, 1 / 3, 1 / 3]),
    "same direction: the mean": ([[2, 4], [1, 2]], [1.5, 3]),
    "opposite: the base": ([[1, 2], [-2, -4]], [0, 0]),
    "one specialist: itself": ([[3, -4]], [3, -4]),
    "a specialist that is the base": ([[3, -4], [0, 0]], [0, 0]),
    "one zero of three: a third of the pairs agrees": ([[1, 2], [1, 2], [0, 0]], [0.4, 0.8]),
    "all are the base": ([[0, 0], [0, 0]], [0, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(bench, tmp_path, case):
    rows, expected = CASES[case]
    assert row_update(bench, tmp_path, "model_stock", {}, rows) == pytest.approx(expected)


def test_equals_the_reference(bench, tmp_path):
    """The specialists share a part, so that cosines are positive; every tensor has its own ratio."""
    shared, own = random_values(9), [random_values(seed) for seed in range(4)]
    vectors = [{name: values[name] + shared[name] for name in shared} for values in own]
    ratios = []
    for name, update in updates(bench, tmp_path, "model_stock", {}, vectors).items():
        flat = [vector[name].astype(np.float64).ravel() for vector in vectors]
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.combinations(flat, 2)]
        cosine = sum(cosines) / 6
        ratio = 4 * cosine / (1 + 3 * cosine)
        np.testing.assert_allclose(update.ravel(), ratio * sum(flat) / 4, rtol=1e-5, atol=1e-6)
        ratios.append(ratio)
    assert 0.1 < min(ratios) < max(ratios) < 0.99
