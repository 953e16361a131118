"""Iso-C and Iso-CTS: numbers by hand, a dense reference in float64, degenerate task vectors."""

from __future__ import annotations

import numpy as np
import pytest
from mergebench_frontier.iso_c import IsoC
from mergebench_frontier.iso_cts import IsoCts, own_directions
from spectral_samples import polar, random_vectors, relative_error, update

ISO_C, ISO_CTS = IsoC(), IsoCts()
CTS = {"common_space_fraction": 0.8}
SHAPES = [(40, 40), (24, 61), (61, 24)]


def cts_reference(vectors: list[np.ndarray], fraction: float) -> np.ndarray:
    """Return the update of Iso-CTS (arXiv:2502.04959) with the released code's rounding of k."""
    rank, n = min(vectors[0].shape), len(vectors)
    k = rank - round((rank - int(rank * fraction)) / n) * n
    left, values, right = (part for part in np.linalg.svd(sum(vectors), full_matrices=False))
    lefts, all_values, rights = [left[:, :k]], [values[:k]], [right[:k]]
    for vector in vectors:
        rest = vector - left[:, :k] @ left[:, :k].T @ vector
        own_left, own_values, own_right = np.linalg.svd(rest, full_matrices=False)
        own = (rank - k) // n
        lefts.append(own_left[:, :own])
        all_values.append(own_values[:own])
        rights.append(own_right[:own])
    return np.concatenate(all_values).mean() * polar(np.hstack(lefts)) @ polar(np.vstack(rights))


def test_iso_c_by_hand():
    """The sum is diag(6, -2): mean 4, signs kept."""
    found = update(ISO_C, [np.diag([4, 1]), np.diag([2, -3])])
    assert np.allclose(found, np.diag([4, -4]), rtol=0, atol=1e-6)


def test_iso_cts_by_hand():
    """Half of diag(9, 5, 3, 0) and diag(1, 5, 0, 4) is common: of the sum diag(10, 10, 3, 4) the first two axes.
    The first specialist keeps its 3 on the third axis, the second its 4 on the fourth. Mean 27 / 4.
    """
    found = update(ISO_CTS, [np.diag([9, 5, 3, 0]), np.diag([1, 5, 0, 4])], {"common_space_fraction": 0.5})
    assert np.allclose(found, 6.75 * np.eye(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [1, 2, 5])
def test_iso_c_against_dense_reference(number, shape):
    vectors = random_vectors(number, shape)
    left, values, right = np.linalg.svd(sum(vectors), full_matrices=False)
    assert relative_error(update(ISO_C, vectors), values.mean() * left @ right) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [2, 3, 5])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8])
def test_iso_cts_against_dense_reference(fraction, number, shape):
    vectors = random_vectors(number, shape)
    found = update(ISO_CTS, vectors, {"common_space_fraction": fraction})
    assert relative_error(found, cts_reference(vectors, fraction)) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_iso_cts_of_one_specialist_is_iso_c(shape):
    (vector,) = random_vectors(1, shape)
    assert relative_error(update(ISO_CTS, [vector], CTS), update(ISO_C, [vector])) < 1e-6


def test_iso_cts_with_everything_common_is_iso_c():
    vectors = random_vectors(3, (12, 20))
    found = update(ISO_CTS, vectors, {"common_space_fraction": 1.0})
    assert relative_error(found, update(ISO_C, vectors)) < 1e-6


def test_spectrum_is_flat():
    vectors = random_vectors(3, (20, 31))
    for found in (update(ISO_C, vectors), update(ISO_CTS, vectors, CTS)):
        values = np.linalg.svd(found, compute_uv=False)
        assert np.allclose(values, values[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("rank", "number", "fraction", "own"),
    [
        (2048, 5, 0.8, 82),
        (10, 2, 0.8, 1),
        (4, 3, 0.8, 0),
        (4, 3, 0.0, 1),
        (4, 5, 0.0, 0),
        (8, 2, 0.0, 4),
        (8, 3, 1.0, 0),
    ],
)
def test_own_directions_fit_the_rank(rank, number, fraction, own):
    """2048: 1638 common at first, 410 left, 82 each. 4 for 5 specialists: rounding up would ask for 5."""
    assert own_directions(rank, number, fraction) == own


def test_order_of_specialists_changes_rounding_only():
    vectors = random_vectors(4, (24, 30))
    assert relative_error(update(ISO_C, vectors[::-1]), update(ISO_C, vectors)) < 1e-6
    assert relative_error(update(ISO_CTS, vectors[::-1], CTS), update(ISO_CTS, vectors, CTS)) < 1e-6


def test_zeros_stay_zeros():
    zeros = [np.zeros((5, 7))] * 3
    assert not update(ISO_C, zeros).any()
    assert not update(ISO_CTS, zeros, CTS).any()


def test_directions_without_content_stay_zero_but_count_in_the_mean():
    """Diag(6, 2, 0, 0): mean of the four singular values 2."""
    found = update(ISO_C, [np.diag([6, 2, 0, 0])])
    assert np.allclose(found, np.diag([2, 2, 0, 0]), rtol=0, atol=1e-6)


def test_remainders_that_are_rounding_do_not_count():
    """Rank 2 specialists within the common space: nothing of their own is left but rounding."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((10, 2)) @ generator.standard_normal((2, 9))
    left, values, right = np.linalg.svd(np.float32(first).astype(np.float64) * 2)
    found = update(ISO_CTS, [first, first], {"common_space_fraction": 0.8})
    expected = values[:2].sum() / 9 * left[:, :2] @ right[:2]
    assert relative_error(found, expected) < 1e-4


def test_sums_that_cancel_leave_the_specialists_own():
    vector = np.diag([4.0, 3.0, 2.0, 1.0])
    assert not update(ISO_C, [vector, -vector]).any()
    found = update(ISO_CTS, [vector, -vector], {"common_space_fraction": 0.5})
    assert np.isfinite(found).all()


def test_other_tensors_are_averaged():
    for method in (ISO_C, ISO_CTS):
        assert np.array_equal(update(method, [[1.0, 2.0], [3.0, 6.0]], CTS, role="bias"), [2.0, 4.0])
