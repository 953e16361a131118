"""DELLA by hand, against a dense reference on the same random numbers, and by its keep rates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mergebench_frontier.della import keep_probability
from update_samples import WEIGHT, domain, random_values, updates

from mergebench_core.errors import MergebenchError
from mergebench_core.worker.random import key_of, uniform

CONFIG = {"density": 0.5, "epsilon": 0.2, "scaling_coefficient": 1.0}


def probabilities(row, density=0.5, epsilon=0.2):
    return keep_probability(torch.tensor(row), density, epsilon).tolist()


def test_probability_grows_with_the_rank_in_the_row():
    assert probabilities([[1.0, -3.0, 2.0], [0.0, -1.0, 5.0]]) == [
        pytest.approx([0.3, 0.7, 0.5]),
        pytest.approx([0.3, 0.5, 0.7]),
    ]
    assert probabilities([9.0, 1.0]) == pytest.approx([0.7, 0.3])


def test_probability_of_what_has_no_order():
    assert probabilities([2.0, -2.0, 2.0]) == pytest.approx([0.3, 0.5, 0.7])
    assert probabilities([[4.0], [1.0]]) == [[0.5], [0.5]]
    assert probabilities(3.0) == 0.5
    assert probabilities([1.0, 2.0, 3.0], epsilon=0.0) == [0.5, 0.5, 0.5]


def pruned(vector: np.ndarray, number: int, name: str, seed: int) -> np.ndarray:
    """Drop and rescale one task vector in float64, row by row."""
    draws = uniform(key_of(seed, domain(number), name), 0, vector.size).numpy().astype(np.float64)
    rows, lanes = vector.astype(np.float64).reshape(-1, vector.shape[-1]), draws.reshape(-1, vector.shape[-1])
    result = np.zeros_like(rows)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            rank = sum(abs(other) < abs(value) for other in row)
            chance = 0.3 + 0.4 * rank / (len(row) - 1)
            result[i, j] = value / chance if lanes[i, j] < chance else 0
    return result.reshape(vector.shape)


def elected_mean(vectors: list[np.ndarray]) -> np.ndarray:
    agreeing = np.stack([np.where(np.sign(vector) == np.sign(sum(vectors)), vector, 0) for vector in vectors])
    return agreeing.sum(0) / np.maximum((agreeing != 0).sum(0), 1)


@pytest.mark.parametrize(("method", "fuse"), [("della", elected_mean), ("della_linear", sum)])
def test_equals_the_reference(bench, tmp_path, method, fuse):
    vectors = [random_values(seed) for seed in range(3)]
    found = updates(bench, tmp_path, method, CONFIG, vectors, seed=5)
    for name, update in found.items():
        kept = [pruned(vector[name], number, name, 5) for number, vector in enumerate(vectors)]
        np.testing.assert_allclose(update, fuse(kept), rtol=1e-5, atol=1e-6)
        assert update.any()
        assert any((vector == 0).any() for vector in kept)


def test_rate_and_mean_are_kept(bench, tmp_path):
    """One specialist of ones: the share kept is the density, rescaling keeps the mean."""
    ones = {WEIGHT: np.ones((100, 1000), np.float32)}
    found = updates(bench, tmp_path, "della_linear", CONFIG, [ones])[WEIGHT]
    assert (found != 0).mean() == pytest.approx(0.5, abs=0.01)
    assert found.mean() == pytest.approx(1.0, abs=0.02)
    by_rank = (found != 0).mean(0)
    assert by_rank[:100].mean() == pytest.approx(0.32, abs=0.03)
    assert by_rank[-100:].mean() == pytest.approx(0.68, abs=0.03)


@pytest.mark.parametrize("density", [0.04, 0.96, 0.05])
def test_refuses_what_is_no_probability(bench, tmp_path, density):
    ones = {WEIGHT: np.ones((2, 2), np.float32)}
    config = {"density": density, "epsilon": 0.05, "scaling_coefficient": 1.0}
    with pytest.raises(MergebenchError, match=f"density {density} and epsilon 0.05 .* choose a smaller epsilon"):
        updates(bench, tmp_path, "della", config, [ones])
