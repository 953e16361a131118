"""Rounding, finiteness and bit counts: compiled against torch."""

from __future__ import annotations

import pytest
import torch

from mergebench_core.kernels import weights
from mergebench_core.kernels.weights import BitCounts, is_finite, merged_values

TYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=["compiled", "torch"])
def kernels(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(weights, "kernels", lambda: None)
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
    values = torch.tensor([1.0, -1.0, 1.0000001, 2.0, 0.0, -0.0, 1.5, 3.0, 1.0])
    one = torch.tensor(1.0).view(torch.int32).item() >> 16
    counts = BitCounts([one, 0], width=2)
    counts.add(values)
    counts.add(values[:1])
    assert int(counts.high.sum()) == 10
    assert counts.high[one] == 5
    assert counts.high[0] == 2
    assert counts.low_of(one)[:2].tolist() == [4, 1]
    assert counts.low_of(0)[0] == 2
    assert counts.low_of(one + 2) is None
    other = BitCounts([one, 0], width=2)
    other.merge(counts)
    assert torch.equal(other.low, counts.low)
