"""WUDI-Merging: its objective by automatic differentiation, the closed form against Adam, numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mergebench_frontier.wudi import Wudi
from mergebench_frontier.wudi_closed_form import WudiClosedForm
from spectral_samples import random_vectors, relative_error, update

WUDI, CLOSED = Wudi(), WudiClosedForm()
CONFIG = {"num_steps": 300, "learning_rate": 1e-5}
SHAPES = [(12, 12), (30, 8), (8, 30)]


def loss(merged: torch.Tensor, vectors: list[np.ndarray]) -> torch.Tensor:
    """Return the objective of arXiv:2503.08099 as it is written."""
    total = merged.new_zeros(())
    for vector in map(merged.new_tensor, vectors):
        total = total + ((merged - vector) @ vector.T).square().sum() / vector.square().sum()
    return total


def loss_of(found: np.ndarray, vectors: list[np.ndarray]) -> float:
    return float(loss(torch.from_numpy(found), vectors))


def gradient_at(found: np.ndarray, vectors: list[np.ndarray]) -> np.ndarray:
    merged = torch.from_numpy(found).requires_grad_()
    loss(merged, vectors).backward()
    return merged.grad.numpy()


def adam_reference(vectors: list[np.ndarray], num_steps: int, learning_rate: float) -> np.ndarray:
    """Descend in float64 with Adam written out (arXiv:1412.6980, algorithm 1)."""
    merged = sum(vectors)
    first, second = np.zeros_like(merged), np.zeros_like(merged)
    for step in range(1, num_steps + 1):
        gradient = gradient_at(merged, vectors)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        change = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        merged = merged - learning_rate * change
    return merged


def test_closed_form_by_hand():
    """One row: tau_1 = (2, 0), tau_2 = (1, 1). A_1 = diag(1, 0), A_2 = 1/2 everywhere.

    C = [[1.5, 0.5], [0.5, 0.5]], B = (2, 0) + (1, 1) = (3, 1), so tau = (2, 0).
    """
    assert np.allclose(update(CLOSED, [[[2, 0]], [[1, 1]]]), [[2, 0]], rtol=0, atol=1e-6)


def test_disjoint_inputs_add_up():
    """Specialists that use different inputs do not interfere: the sum is the minimiser, with loss 0."""
    vectors = [np.array([[1.0, 2, 0, 0]]), np.array([[0, 0, 3.0, 4]])]
    assert np.allclose(update(CLOSED, vectors), [[1, 2, 3, 4]], rtol=0, atol=1e-6)
    assert np.allclose(update(WUDI, vectors, CONFIG), [[1, 2, 3, 4]], rtol=0, atol=1e-6)


def test_adams_first_step_by_hand():
    """Tau starts at (3, 1); its gradient 2 (tau C - B) = 2 ((5, 2) - (3, 1)) is positive: both move down by the
    learning rate."""
    found = update(WUDI, [[[2, 0]], [[1, 1]]], {"num_steps": 1, "learning_rate": 0.125})
    assert np.allclose(found, [[2.875, 0.875]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_adam_against_reference(shape):
    vectors = random_vectors(3, shape)
    found = update(WUDI, vectors, CONFIG)
    moved = relative_error(adam_reference(vectors, 300, 1e-5), sum(vectors))
    assert relative_error(found, adam_reference(vectors, 300, 1e-5)) < moved / 1000


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_vanishes_at_the_closed_form(shape):
    vectors = random_vectors(3, shape)
    at_start = np.linalg.norm(gradient_at(sum(vectors), vectors))
    assert np.linalg.norm(gradient_at(update(CLOSED, vectors), vectors)) < 1e-5 * at_start


@pytest.mark.parametrize("shape", SHAPES)
def test_closed_form_beats_adam(shape):
    vectors = random_vectors(3, shape)
    adam = loss_of(update(WUDI, vectors, CONFIG), vectors)
    assert loss_of(update(CLOSED, vectors), vectors) < adam < loss_of(sum(vectors), vectors)


def test_unreached_inputs_stay_zero():
    """2 specialists of 2 outputs reach at most 4 of 9 inputs: the smallest minimiser, by numpy's least squares."""
    vectors = random_vectors(2, (2, 9))
    curvature = sum(v.T @ v / np.square(v).sum() for v in vectors)
    target = sum(v @ v.T @ v / np.square(v).sum() for v in vectors)
    expected = np.linalg.lstsq(curvature, target.T, rcond=1e-10)[0].T
    found = update(CLOSED, vectors)
    assert relative_error(found, expected) < 1e-6
    reached = np.linalg.svd(np.vstack(vectors))[2][:4]
    assert relative_error(found @ reached.T @ reached, found) < 1e-6


def test_order_of_specialists_changes_rounding_only():
    vectors = random_vectors(3, (10, 8))
    assert relative_error(update(CLOSED, vectors[::-1]), update(CLOSED, vectors)) < 1e-5
    assert relative_error(update(WUDI, vectors[::-1], CONFIG), update(WUDI, vectors, CONFIG)) < 1e-5


def test_one_specialist_is_itself():
    for method in (WUDI, CLOSED):
        (vector,) = random_vectors(1, (10, 8))
        assert relative_error(update(method, [vector], CONFIG), vector) < 1e-6


def test_a_task_vector_of_zeros_asks_for_nothing():
    vectors = random_vectors(2, (10, 8))
    assert np.array_equal(update(CLOSED, [*vectors, np.zeros((10, 8))]), update(CLOSED, vectors))
    for method in (WUDI, CLOSED):
        assert not update(method, [np.zeros((4, 6))] * 2, CONFIG).any()


def test_other_tensors_are_averaged():
    for method in (WUDI, CLOSED):
        assert np.array_equal(update(method, [[1.0, 2.0], [3.0, 6.0]], CONFIG, role="norm"), [2.0, 4.0])
