"""Magnitude thresholds against `torch.kthvalue` and against sorting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from checkpoint_samples import write_checkpoint
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mergebench_core.checkpoints.thresholds import (
    SAMPLE_NUMEL,
    magnitude_thresholds,
    task_vector_values,
    tensor_order_statistics,
)
from mergebench_core.errors import InputError
from mergebench_core.methods import PerDomain
from mergebench_core.worker.chunks import Models, walk

DENSITIES = [1.0, 0.9, 0.5, 0.3, 0.1, 0.01, 1e-9]


@dataclass
class FakeChunk:
    task_vectors: PerDomain[torch.Tensor]


class FakeContext:
    """Task vectors by domain, cut into pieces of the given sizes, over and over."""

    def __init__(self, vectors: dict[str, torch.Tensor], sizes: list[int]) -> None:
        self.vectors, self.sizes = vectors, sizes
        self.num_walks = 0

    def chunks(self):
        self.num_walks += 1
        parts = {domain: vector.split(self.sizes) for domain, vector in self.vectors.items()}
        for number in range(len(self.sizes)):
            yield FakeChunk(PerDomain({domain: part[number] for domain, part in parts.items()}))


def threshold(vector: torch.Tensor, density: float, sizes: list[int] | None = None) -> float:
    return magnitude_thresholds(FakeContext({"math": vector}, sizes or [vector.numel()]), density)["math"]


def sorted_threshold(vector: torch.Tensor, density: float) -> float:
    """The slow definition: sort, count down to the last one kept."""
    kept = max(1, int(density * vector.numel()))
    return sorted(np.abs(vector.numpy()).tolist(), reverse=True)[kept - 1]


def kthvalue_threshold(vector: torch.Tensor, density: float) -> float:
    kept = max(1, int(density * vector.numel()))
    return float(vector.abs().kthvalue(vector.numel() - kept + 1).values)


FLOATS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0000001, 2.0**-149, -(2.0**-126), 3.4e38, 1e-30]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(FLOATS, min_size=1, max_size=60),
    st.one_of(st.sampled_from(DENSITIES), st.floats(0, 1, exclude_min=True)),
    st.integers(1, 60),
)
@example([0.0] * 9, 0.5, 3)
@example([1.0] * 9, 0.2, 2)
@example([1.0, -1.0, 0.0, 0.0], 0.5, 1)
@example([-5.0], 1e-12, 1)
def test_equals_sorting_and_kthvalue(values, density, size):
    vector = torch.tensor(values, dtype=torch.float32)
    sizes = [min(size, vector.numel() - start) for start in range(0, vector.numel(), size)]
    found = threshold(vector, density, sizes)
    assert found == sorted_threshold(vector, density) == kthvalue_threshold(vector, density)
    assert int((vector.abs() >= found).sum()) >= max(1, int(density * vector.numel()))


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_large_vectors_over_many_magnitudes(dtype, density):
    generator = torch.Generator().manual_seed(3)
    vector = torch.randn(20_000, generator=generator) * 10 ** (4 * torch.randn(20_000, generator=generator))
    vector = vector.clamp(-6e4, 6e4).to(dtype).float()
    vector[::7] = 0
    assert threshold(vector, density, [1, 999, 19_000]) == kthvalue_threshold(vector, density)


def test_members_of_one_bucket_are_told_apart():
    """Values that share the high 15 magnitude bits and differ in the low 16 only."""
    vector = (torch.arange(1000, dtype=torch.int32) + 0x3F800000).view(torch.float32)
    vector = vector[torch.randperm(1000, generator=torch.Generator().manual_seed(0))] * torch.tensor(
        [1.0, -1.0]
    ).repeat(500)
    for density in (1.0, 0.5, 0.001):
        assert threshold(vector, density) == sorted_threshold(vector, density)


def test_every_domain_has_its_own_over_all_tensors():
    vectors = {"math": torch.arange(10.0), "coding": 100 * torch.arange(10.0)}
    assert magnitude_thresholds(FakeContext(vectors, [4, 1, 5]), 0.3) == {"coding": 700.0, "math": 7.0}


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_exact_whether_the_sample_foretells_it_or_not(scale):
    """The sample is every eighth chunk; the others are of another size with `scale`."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(80, 4000, generator=generator)
    vector[::8] *= scale
    for density in (0.5, 0.2):
        context = FakeContext({"math": vector.flatten()}, [4000] * 80)
        found = magnitude_thresholds(context, density)["math"]
        assert found == sorted_threshold(vector.flatten(), density)
        assert context.num_walks == (4 if scale == 1.0 else 6)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_weights_in_files_are_counted_exactly(tmp_path, scale, num_threads):
    """Their sample is the start of each chunk; the rest is of another size with `scale`."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(9, 3 * SAMPLE_NUMEL, generator=generator)
    vector[:, SAMPLE_NUMEL:] *= scale
    base, specialist = {"w": torch.zeros_like(vector)}, {"w": vector}
    models = Models(
        base=write_checkpoint(tmp_path / "base", base),
        specialists={"math": write_checkpoint(tmp_path / "math", specialist)},
        seed=0,
    )
    context = FakeContext({}, [])
    context.chunks = lambda: walk(models, tuple(models.base.entries.values()), "elementwise", 3 * SAMPLE_NUMEL)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        for density in (0.5, 0.2):
            assert magnitude_thresholds(context, density)["math"] == sorted_threshold(vector.flatten(), density)
    finally:
        torch.set_num_threads(before)


def test_several_ranks_per_tensor():
    """The largest and the third largest magnitude of each tensor."""
    chunks = {"a": torch.tensor([1.0, -5.0, 2.0, 3.0]), "b": torch.tensor([0.0, 0.0, -7.0])}
    context = FakeContext({}, [])
    context.merged_names = tuple(chunks)
    context.chunks = lambda names: [FakeChunk(PerDomain({"math": chunks[name]})) for name in names]
    found = tensor_order_statistics(context, task_vector_values, lambda numel: [1, 3])
    assert found == {"a": {"math": [5.0, 2.0]}, "b": {"math": [7.0, 0.0]}}


def test_shapes_do_not_matter():
    chunk = FakeChunk(PerDomain({"math": torch.arange(6.0).view(2, 3)}))
    context = FakeContext({}, [])
    context.chunks = lambda: iter([chunk])
    assert magnitude_thresholds(context, 0.5) == {"math": 3.0}


def test_threshold_survives_json():
    import json

    vector = torch.tensor([0.1, 0.2, 1 / 3])
    found = json.loads(json.dumps(threshold(vector, 0.4)))
    assert (vector >= found).tolist() == [False, False, True]


@pytest.mark.parametrize("density", [0, 0.0, -0.5, 1.0000001, 2, math.nan, math.inf])
def test_density_out_of_range(density):
    with pytest.raises(InputError, match="give the fraction kept, above 0 and up to 1"):
        threshold(torch.ones(3), density)
