"""The Karcher mean by hand, and against the iteration on whole tensors."""

from __future__ import annotations

from math import cos, pi, sin, sqrt

import numpy as np
import pytest
import torch
from mergebench_frontier.karcher import mean_factors
from update_samples import merged_values, random_values, row_update

CASES = {
    "half way between right angles": ([[2, 0], [0, 2]], [sqrt(2), sqrt(2)]),
    "lengths are averaged": ([[1, 0], [0, 3]], [sqrt(2), sqrt(2)]),
    "the middle of three angles": ([[1, 0], [cos(1), sin(1)], [cos(0.2), sin(0.2)]], [cos(0.4), sin(0.4)]),
    "same direction": ([[1, 2], [3, 6]], [2, 4]),
    "identical": ([[0.3, -0.7]] * 3, [0.3, -0.7]),
    "one specialist": ([[3, -4]], [3, -4]),
    "zeros count in the length only": ([[3, 4], [0, 0]], [1.5, 2]),
    "all zero": ([[0, 0], [0, 0]], [0, 0]),
    "opposite ones stay at the first": ([[1, 0], [-1, 0]], [1, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(bench, tmp_path, case):
    """The base is zero, so the update is the mean itself."""
    rows, expected = CASES[case]
    assert row_update(bench, tmp_path, "karcher", {}, rows) == pytest.approx(expected, abs=1e-6)


def reference(tensors: list[np.ndarray]) -> np.ndarray:
    """Run the iteration on whole float64 tensors."""
    flat = [tensor.astype(np.float64).ravel() for tensor in tensors]
    units = [tensor / np.linalg.norm(tensor) for tensor in flat]
    mean = sum(units) / np.linalg.norm(sum(units))
    for _ in range(10):
        angles = [np.arccos(mean @ unit) for unit in units]
        step = sum(
            angle / np.sin(angle) * (unit - np.cos(angle) * mean)
            for angle, unit in zip(angles, units, strict=True)
        ) / len(units)
        length = np.linalg.norm(step)
        if length < 1e-5:
            break
        mean = np.cos(length) * mean + np.sin(length) * step / length
    lengths = [np.linalg.norm(tensor) for tensor in flat]
    return (mean * sum(lengths) / len(lengths)).reshape(tensors[0].shape)


@pytest.mark.parametrize("spread", [1.0, 0.01])
def test_equals_the_reference(bench, tmp_path, spread):
    """Far apart, and as near each other as fine-tuned models are."""
    base = random_values(9)
    specialists = [
        {name: base[name] + np.float32(spread) * values for name, values in random_values(seed).items()}
        for seed in range(4)
    ]
    found = merged_values(bench, tmp_path, "karcher", {}, base, specialists)
    for name, merged in found.items():
        tensors = [specialist[name] for specialist in specialists]
        expected = reference(tensors)
        np.testing.assert_allclose(merged, expected, rtol=1e-6, atol=1e-7)
        assert not np.allclose(merged, sum(tensors) / 4, rtol=1e-6, atol=1e-7)


def test_the_mean_is_where_the_pulls_cancel():
    angles = np.array([0.0, 0.3, pi / 2, 2.0])
    products = np.cos(angles[:, None] - angles)
    factors = mean_factors(torch.from_numpy(products))
    x, y = factors @ np.cos(angles), factors @ np.sin(angles)
    assert np.arctan2(y, x) == pytest.approx(angles.mean(), abs=1e-5)
    assert np.hypot(x, y) == pytest.approx(1.0)
