"""TSV-Merge: numbers by hand, a dense reference in float64, degenerate task vectors."""

from __future__ import annotations

import numpy as np
import pytest
from mergebench_frontier.tsv_merge import TsvMerge
from spectral_samples import polar, random_vectors, relative_error, update

METHOD = TsvMerge()


def tsv_reference(vectors: list[np.ndarray]) -> np.ndarray:
    """Return the update of arXiv:2412.00081, algorithm 1, by five plain decompositions."""
    number = min(vectors[0].shape) // len(vectors)
    parts = [np.linalg.svd(vector, full_matrices=False) for vector in vectors]
    left = np.hstack([part[0][:, :number] for part in parts])
    values = np.concatenate([part[1][:number] for part in parts])
    right = np.vstack([part[2][:number] for part in parts])
    return polar(left) @ np.diag(values) @ polar(right)


def test_orthogonal_task_vectors_keep_their_leading_halves():
    """Of diag(4, 1, 0, 0) and diag(0, 0, 5, 3) two of four triples each: everything, already orthogonal."""
    found = update(METHOD, [np.diag([4, 1, 0, 0]), np.diag([0, 0, 5, 3])])
    assert np.allclose(found, np.diag([4, 1, 5, 3]), rtol=0, atol=1e-6)


def test_what_is_not_leading_is_dropped():
    """Of diag(4, 1) and diag(2, 3) one triple each: (4 on the first axis) and (3 on the second)."""
    assert np.allclose(update(METHOD, [np.diag([4, 1]), np.diag([2, 3])]), np.diag([4, 3]), rtol=0, atol=1e-6)


def test_overlapping_directions_are_turned_apart():
    """Rank 1 with inputs e1 and outputs e1 and (0.6, 0.8): outputs turned apart by hand, inputs too.

    U = [[1, 0.6], [0, 0.8]] has the polar factor [[a, b], [-b, a]] with a/b = (1 + 0.8) / 0.6, so a = 3/sqrt(10),
    b = 1/sqrt(10). V is the identity. With singular values 2 and 5 the update is U' diag(2, 5).
    """
    first, second = np.array([[2.0, 0], [0, 0]]), np.array([[0, 3.0], [0, 4.0]])
    expected = np.array([[3, 1], [-1, 3]]) / np.sqrt(10) @ np.diag([2, 5])
    assert np.allclose(update(METHOD, [first, second]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 40), (24, 61), (61, 24), (41, 300)])
@pytest.mark.parametrize("number", [2, 5])
def test_against_dense_reference(number, shape):
    vectors = random_vectors(number, shape)
    assert relative_error(update(METHOD, vectors), tsv_reference(vectors)) < 1e-6


def test_blocks_of_the_gram_matrix_fit_together():
    """More rows than are computed at once."""
    vectors = random_vectors(3, (300, 310))
    assert relative_error(update(METHOD, vectors), tsv_reference(vectors)) < 1e-6


@pytest.mark.parametrize("shape", [(16, 16), (9, 20), (20, 9)])
def test_one_specialist_is_itself(shape):
    (vector,) = random_vectors(1, shape)
    assert np.allclose(update(METHOD, [vector]), vector, rtol=0, atol=1e-7 * np.abs(vector).max())


def test_order_of_specialists_changes_rounding_only():
    vectors = random_vectors(4, (24, 30))
    assert relative_error(update(METHOD, vectors[::-1]), update(METHOD, vectors)) < 1e-6


def test_equal_specialists_give_their_leading_part():
    """Diag(4, 3, 2, 1) twice: two triples, counted once."""
    vector = np.diag([4, 3, 2, 1])
    assert np.allclose(update(METHOD, [vector, vector]), np.diag([4, 3, 0, 0]), rtol=0, atol=1e-6)


def test_a_task_vector_of_zeros_takes_no_part():
    """Its singular vectors are arbitrary: they must not push the other's aside."""
    first = random_vectors(1, (8, 8))[0]
    left, values, right = np.linalg.svd(first)
    expected = (left[:, :4] * values[:4]) @ right[:4]
    assert relative_error(update(METHOD, [first, np.zeros((8, 8))]), expected) < 1e-6
    assert not update(METHOD, [np.zeros((8, 8)), np.zeros((8, 8))]).any()


def test_low_rank_task_vectors_keep_what_there_is():
    generator = np.random.default_rng(1)
    vectors = [np.outer(generator.standard_normal(12), generator.standard_normal(9)) for _ in range(2)]
    left = polar(np.stack([v[:, 0] / np.linalg.norm(v[:, 0]) for v in vectors], axis=1))
    right = polar(np.stack([v[0] / np.linalg.norm(v[0]) for v in vectors], axis=1))
    signs = [np.sign(v[0, 0]) * np.linalg.norm(v) for v in vectors]
    assert relative_error(update(METHOD, vectors), left @ np.diag(signs) @ right.T) < 1e-6


def test_more_specialists_than_rank_keep_one_triple_each():
    vectors = random_vectors(5, (3, 7))
    found = update(METHOD, vectors)
    parts = [np.linalg.svd(vector, full_matrices=False) for vector in vectors]
    left = np.stack([part[0][:, 0] for part in parts], axis=1)
    right = np.stack([part[2][0] for part in parts])
    expected = polar(left) @ np.diag([part[1][0] for part in parts]) @ polar(right)
    assert relative_error(found, expected) < 1e-6


def test_scale_of_task_vectors_does_not_matter():
    vectors = random_vectors(3, (12, 18))
    tiny = update(METHOD, [vector * 2.0**-60 for vector in vectors])
    assert np.array_equal(tiny * 2.0**60, update(METHOD, vectors))


def test_other_tensors_are_averaged():
    assert np.array_equal(update(METHOD, [[1.0, 2.0], [3.0, 6.0]], role="norm"), [2.0, 4.0])
