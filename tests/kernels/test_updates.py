"""Compiled updates against torch, to the bit, and both against numbers worked by hand."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergebench_core.kernels import library, updates
from mergebench_core.kernels.sources import StoredWeights
from mergebench_core.methods import PerDomain
from mergebench_core.worker.random import uniform

TYPES = [torch.float32, torch.bfloat16, torch.float16]
UPDATES = {
    "sum": updates.sum_of_task_vectors,
    "mean": updates.mean_of_task_vectors,
    "kept sum": lambda chunk: updates.kept_sum(chunk, low=chunk.low),
    "kept sum within bounds": lambda chunk: updates.kept_sum(chunk, low=chunk.low, high=chunk.high),
    "kept mean": lambda chunk: updates.kept_mean(chunk, low=chunk.low),
    "elected mean": lambda chunk: updates.elected_mean(chunk, low=chunk.low),
    "random sum": lambda chunk: updates.random_sum(chunk, density=0.3),
    "everything at random": lambda chunk: updates.random_sum(chunk, density=1.0),
    "consensus": lambda chunk: updates.consensus_sum(chunk, thresholds=chunk.low, least_votes=2, only=None),
    "one mask": lambda chunk: updates.consensus_sum(chunk, thresholds=chunk.low, least_votes=2, only="d0"),
}


@dataclass
class Chunk:
    """A chunk with stored weights, or, without them, one that torch alone can merge."""

    stored: StoredWeights | None
    base: torch.Tensor
    task_vectors: PerDomain[torch.Tensor]
    low: dict[str, float]
    high: dict[str, float]
    offset: int
    keys: dict[str, int]

    def random(self, domain: str) -> torch.Tensor:
        return uniform(self.keys[domain], self.offset, self.base.numel())

    def without_kernels(self) -> Chunk:
        return Chunk(None, self.base, self.task_vectors, self.low, self.high, self.offset, self.keys)


def chunk_of(base: torch.Tensor, specialists: list[torch.Tensor], offset: int = 0) -> Chunk:
    domains = [f"d{number}" for number in range(len(specialists))]
    keys = {domain: 0x1234567890ABCDEF_FEDCBA0987654321 + number for number, domain in enumerate(domains)}
    stored = StoredWeights(
        base=base,
        specialists=PerDomain(dict(zip(domains, specialists, strict=True))),
        random_keys=tuple(keys.values()),
        numel=base.numel(),
        shape=tuple(base.shape),
    )
    vectors = {domain: values.float() - base.float() for domain, values in stored.specialists.items()}
    middle = {domain: float(vector.abs().median()) for domain, vector in vectors.items()}
    high = {domain: 2 * value for domain, value in middle.items()}
    return Chunk(stored, base.float(), PerDomain(vectors), middle, high, offset, keys)


@pytest.fixture(autouse=True)
def compiled():
    """Where there is no C compiler there is nothing to compare."""
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler: torch does the work")
    assert library.kernels() is not None


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("numel", "num_specialists", "offset"), [(1, 1, 0), (513, 2, 7), (5000, 5, 1 << 33)])
def test_compiled_equals_torch(name, dtype, numel, num_specialists, offset):
    generator = torch.Generator().manual_seed(numel)
    base = (torch.randn(numel, generator=generator) / 50).to(dtype)
    moves = [torch.randn(numel, generator=generator) / 1000 for _ in range(num_specialists)]
    chunk = chunk_of(base, [(base.float() + move * (move > -0.001)).to(dtype) for move in moves], offset)
    found = UPDATES[name](chunk)
    assert torch.equal(found, UPDATES[name](chunk.without_kernels()))
    assert found.dtype == torch.float32


VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 2.0**-149]), st.floats(-(2.0**60), 2.0**60, width=32)
)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 20).flatmap(
        lambda size: st.lists(st.lists(VALUES, min_size=size, max_size=size), min_size=2, max_size=5)
    )
)
def test_compiled_equals_torch_on_awkward_values(rows):
    base, *specialists = [torch.tensor(row) for row in rows]
    chunk = chunk_of(base, specialists)
    for name, update in UPDATES.items():
        assert torch.equal(update(chunk), update(chunk.without_kernels())), name


def test_dtypes_may_differ_between_models():
    base = torch.tensor([1.0, -2.0]).bfloat16()
    chunk = chunk_of(base, [torch.tensor([1.5, -2.0]), torch.tensor([0.5, 0.0]).half()])
    assert updates.sum_of_task_vectors(chunk).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("is_compiled", [True, False])
def test_by_hand(is_compiled):
    base = torch.zeros(4)
    chunk = chunk_of(base, [torch.tensor([4.0, -1.0, 0.5, 0.0]), torch.tensor([2.0, 3.0, -0.25, 0.0])])
    chunk = chunk if is_compiled else chunk.without_kernels()
    bounds = {"d0": 0.5, "d1": 0.5}
    assert updates.mean_of_task_vectors(chunk).tolist() == [3.0, 1.0, 0.125, 0.0]
    assert updates.kept_mean(chunk, low=bounds).tolist() == [3.0, 1.0, 0.5, 0.0]
    assert updates.kept_sum(chunk, low=bounds, high={"d0": 1.0, "d1": 3.0}).tolist() == [2.0, 2.0, 0.5, 0.0]
    assert updates.elected_mean(chunk, low=bounds).tolist() == [3.0, 3.0, 0.5, 0.0]
    thresholds = {"d0": 1.0, "d1": 0.5}  # masks: 4>=2, 1<3, .5>=.25, 0>=0; 2>=2, 3>=.5, .25>=.25, 0>=0
    assert updates.consensus_sum(chunk, thresholds=thresholds, least_votes=2, only=None).tolist() == [
        6,
        0,
        0.25,
        0,
    ]
    assert updates.consensus_sum(chunk, thresholds=thresholds, least_votes=2, only="d1").tolist() == [
        6,
        2,
        0.25,
        0,
    ]


def test_random_sum_keeps_a_fraction_and_scales_it():
    base = torch.zeros(100_000)
    found = updates.random_sum(chunk_of(base, [torch.ones(100_000)]), density=0.25)
    assert set(found.tolist()) == {0.0, 4.0}
    assert 0.24 < float((found > 0).float().mean()) < 0.26
