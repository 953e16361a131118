"""Counter-based random numbers: any chunking gives the same, different names give different ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergebench_core.worker.random import key_of, uniform

KEY = key_of(0, "math", "model.norm.weight")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**40), st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_chunks_put_together_are_the_stream(start, sizes):
    whole = uniform(KEY, start, sum(sizes))
    offsets = np.cumsum([0, *sizes])
    parts = [uniform(KEY, start + int(offset), size) for offset, size in zip(offsets, sizes, strict=False)]
    assert torch.equal(torch.cat(parts), whole)


def test_equals_the_generator_read_from_its_beginning():
    lanes = np.random.Philox(key=KEY).random_raw(64).astype("<u8").view("<u2")
    expected = torch.from_numpy(lanes.astype(np.float32)) / 65536
    assert torch.equal(uniform(KEY, 0, 256), expected)
    assert torch.equal(uniform(KEY, 37, 100), expected[37:137])


def test_pinned_values():
    """Another numpy or another key must not change results in silence."""
    found = (uniform(key_of(7, "math", "w"), 15, 4) * 65536).int().tolist()
    assert found == [43755, 27580, 14897, 61403]


def test_range_mean_and_steps():
    values = uniform(KEY, 0, 200_000)
    assert values.dtype == torch.float32
    assert 0 <= float(values.min()) < 0.001
    assert 0.999 < float(values.max()) < 1
    assert abs(float(values.double().mean()) - 0.5) < 5 * (1 / 12 / 200_000) ** 0.5
    assert torch.equal((values * 65536).round() / 65536, values)
    halves = (values < 0.5).view(-1, 2).long()
    counts = torch.bincount(halves[:, 0] * 2 + halves[:, 1]) / 100_000
    assert torch.allclose(counts, torch.full((4,), 0.25), atol=0.01)


@pytest.mark.parametrize(
    "other", [(1, "math", "w"), (0, "coding", "w"), (0, "math", "v"), (0, "math"), ("0", "mathw")]
)
def test_keys_separate_streams(other):
    first, second = uniform(key_of(0, "math", "w"), 0, 4000), uniform(key_of(*other), 0, 4000)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.08


def test_nothing_asked_nothing_given():
    assert uniform(KEY, 5, 0).shape == (0,)
    assert uniform(KEY, 16, 0).shape == (0,)
