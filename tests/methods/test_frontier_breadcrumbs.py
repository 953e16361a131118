"""Model Breadcrumbs by hand, and to the bit against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
from update_samples import random_values, row_update, updates

CONFIG = {"density": 0.5, "top_fraction": 0.25, "scaling_coefficient": 1.0}

CASES = {
    "largest and smallest go": ([[4, -3, 2, 1]], {}, [0, -3, 2, 0]),
    "survivors are added": ([[4, -3, 2, 1], [1, 1.5, 2.5, -8]], {}, [0, -1.5, 4.5, 0]),
    "the coefficient scales": ([[4, -3, 2, 1]], {"scaling_coefficient": 0.5}, [0, -1.5, 1, 0]),
    "density 1 keeps all, whatever the outliers": ([[4, -3, 2, 1]], {"density": 1.0}, [4, -3, 2, 1]),
    "the top cut shrinks to keep the density": (
        [[4, -3, 2, 1]],
        {"density": 0.75, "top_fraction": 0.5},
        [0, -3, 2, 1],
    ),
    "no outliers in small tensors": ([[4, -3, 2, 1]], {"top_fraction": 0.01}, [4, -3, 0, 0]),
    "at least one is kept": ([[4, -3, 2, 1]], {"density": 0.01}, [0, -3, 0, 0]),
    "ties at a threshold are kept": ([[2, -2, 2, 2, 1, 1, 1, 1]], {"density": 0.25}, [2, -2, 2, 2, 0, 0, 0, 0]),
    "equal magnitudes are kept": ([[2, -2, 2, -2]], {}, [2, -2, 2, -2]),
    "zeros": ([[0, 0, 0, 0], [4, 3, 2, 1]], {}, [0, 3, 2, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(bench, tmp_path, case):
    rows, changes, expected = CASES[case]
    assert row_update(bench, tmp_path, "breadcrumbs", CONFIG | changes, rows) == expected


def reference(vector: np.ndarray, density: float, top_fraction: float) -> np.ndarray:
    """Keep places one by one in the order of their magnitudes; magnitudes must differ."""
    flat = vector.ravel()
    num_kept = max(1, int(density * flat.size))
    num_top = min(int(top_fraction * flat.size), flat.size - num_kept)
    kept = sorted(range(flat.size), key=lambda place: -abs(float(flat[place])))[num_top : num_top + num_kept]
    result = np.zeros_like(flat)
    result[kept] = flat[kept]
    return result.reshape(vector.shape)


@pytest.mark.parametrize(("density", "top_fraction"), [(0.15, 0.01), (0.5, 0.1), (0.9, 0.05), (0.9, 0.3)])
def test_equals_the_reference_to_the_bit(bench, tmp_path, density, top_fraction):
    vectors = [random_values(seed) for seed in range(3)]
    config = {"density": density, "top_fraction": top_fraction, "scaling_coefficient": 1.0}
    found = updates(bench, tmp_path, "breadcrumbs", config, vectors, chunk_numel=7)
    for name, update in found.items():
        first, second, third = (reference(vector[name], density, top_fraction) for vector in vectors)
        assert np.array_equal(update, first + second + third)
        assert update.any()
        assert density > 0.5 or (first == 0).any()
