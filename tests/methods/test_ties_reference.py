"""TIES against a slow reference: element by element, in numpy, with its own way of trimming."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoint_samples import random_models
from hypothesis import example, given, settings
from hypothesis import strategies as st
from local_session import LocalSession
from mergebench_methods.ties import Ties

from mergebench_core.methods import PerDomain


def ties_reference(vectors: list[np.ndarray], density: float) -> np.ndarray:
    """Return the TIES update of fp32 task vectors (arXiv:2306.01708, section 3, algorithm 1)."""
    size = vectors[0].size
    kept = max(1, int(density * size))
    trimmed = []
    for vector in vectors:
        smallest_kept = sorted((abs(float(x)) for x in vector), reverse=True)[kept - 1]
        trimmed.append([x if abs(float(x)) >= smallest_kept else np.float32(0) for x in vector])
    update = np.zeros(size, np.float32)
    for i in range(size):
        total = np.float32(0)
        for vector in trimmed:
            total = total + vector[i]
        agreeing = [vector[i] for vector in trimmed if np.sign(vector[i]) == np.sign(total) and vector[i] != 0]
        if agreeing:
            share = np.float32(0)
            for value in agreeing:
                share = share + value
            update[i] = share / np.float32(len(agreeing))
    return update


def ties_update(vectors: list[np.ndarray], density: float) -> np.ndarray:
    """Run the method as a worker would, in two chunks."""
    tensors = {f"domain{number}": torch.from_numpy(vector) for number, vector in enumerate(vectors)}
    cut = len(vectors[0]) // 2
    parts = [
        SimpleNamespace(task_vectors=PerDomain({domain: tensor[place] for domain, tensor in tensors.items()}))
        for place in (slice(cut), slice(cut, None))
    ]
    method, config = Ties(), {"density": density}
    prepared = method.prepare(SimpleNamespace(chunks=lambda: iter(parts)), config)
    view = SimpleNamespace(data=json.loads(json.dumps(prepared.data)))
    return torch.cat([method.update(part, config, view) for part in parts]).numpy()


VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5]),
    st.floats(-(2.0**66), 2.0**66, width=32),
)


@st.composite
def task_vectors(draw) -> list[np.ndarray]:
    size, count = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    return [np.array(draw(st.lists(VALUES, min_size=size, max_size=size)), np.float32) for _ in range(count)]


@settings(max_examples=150, deadline=None)
@given(task_vectors(), st.sampled_from([1.0, 0.9, 0.5, 0.2, 0.01]))
@example([np.array([3, 0], np.float32), np.array([-3, 0], np.float32)], 1.0)
@example([np.zeros(4, np.float32), np.array([0, 1, -1, 1], np.float32)], 0.5)
def test_equals_the_reference_to_the_bit(vectors, density):
    assert np.array_equal(ties_update(vectors, density), ties_reference(vectors, density))


@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_large_random_vectors(density):
    generator = np.random.default_rng(0)
    magnitudes = 10 ** generator.normal(size=(5, 4000)) / 1000
    vectors = list((generator.normal(size=(5, 4000)) * magnitudes).astype(np.float32))
    for vector in vectors:
        vector[generator.integers(0, 4000, 500)] = 0
    found = ties_update(vectors, density)
    assert np.array_equal(found, ties_reference(vectors, density))
    assert 0 < np.count_nonzero(found) <= 4000


def test_the_grid_prepares_once_per_density(tmp_path, monkeypatch):
    prepared, prepare = [], Ties.prepare

    def counted(method, context, config):
        prepared.append(config)
        return prepare(method, context, config)

    monkeypatch.setattr(Ties, "prepare", counted)
    session = LocalSession(Ties(), random_models(tmp_path / "models"), tmp_path / "work", {})
    grid = Ties.search_space.stages[0].configurations()
    assert len(grid) == 30
    for config in grid:
        session.updates(**config)
    assert prepared == [{"density": density} for density in (0.2, 0.5, 0.9)]
