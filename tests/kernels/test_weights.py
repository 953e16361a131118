"""Rounding, finiteness and bit counts: compiled against torch."""

from __future__ import annotations

import pytest
import torch

from mergebench_core.kernels import counts, weights
from mergebench_core.kernels.counts import BitCounts
from mergebench_core.kernels.weights import is_finite, merged_values

TYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=["compiled", "torch"])
def kernels(request, monkeypatch):
    if request.param == "torch":
        for module in (weights, counts):
            monkeypatch.setattr(module, "kernels", lambda: None)
    return request.param


@pytest.mark.parametrize("dtype", TYPES)
def test_merged_values_round_once(kernels, dtype):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(3000, generator=generator).to(dtype)
    update = torch.randn(3000, generator=generator)
    exact = base.double() + (update * torch.tensor(0.3)).double()
    assert torch.equal(merged_values(base, update, 0.3), exact.float().to(dtype))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", TYPES)
def test_is_finite(kernels, dtype, bad):
    values = torch.full((1001,), torch.finfo(dtype).max, dtype=dtype)
    assert is_finite(values)
    values[-1] = bad
    assert not is_finite(values)


def test_overflow_while_rounding_is_not_finite(kernels):
    merged = merged_values(torch.zeros(1, dtype=torch.float16), torch.tensor([65520.0]), 1.0)
    assert not is_finite(merged)


def test_bit_counts(kernels):
    values = torch.tensor([1.0, -1.0, 1.0000001, 2.0, 0.0, -0.0, 1.5, 3.0, 1.0, 2.0**-149] * 3)
    bits = (values.view(torch.int32) & 0x7FFFFFFF).sort(descending=True).values.tolist()
    one = bits_of(1.0) >> 16
    found = BitCounts([one, 0], width=2, has_high=True)
    found.add(values)
    assert found.num_values == 30
    assert [found.bucket(rank) for rank in range(1, 31)] == [value >> 16 for value in bits]
    counted = [value if one <= value >> 16 < one + 2 or value >> 16 < 2 else None for value in bits]
    assert [found.bits(rank) for rank in range(1, 31)] == counted
    assert counted[:9] == [None] * 9
    other = BitCounts([one, 0], width=2, has_high=True)
    other.add(values[:1])
    other.merge(found)
    assert other.num_values == 31
    assert [other.bits(rank) for rank in range(12, 24)] == [bits_of(1.0) + 1] + [bits_of(1.0)] * 10 + [1]
    assert other.bucket(22) == one


def test_largest_patterns_are_counted(kernels):
    largest = torch.finfo(torch.float32).max
    found = BitCounts([0x7F7E], width=3)
    found.add(torch.tensor([largest, -largest, 1.0] * 9))
    assert [found.bits(rank) for rank in (1, 18, 19)] == [bits_of(largest), bits_of(largest), None]


def bits_of(value: float) -> int:
    return int(torch.tensor(value).view(torch.int32))
