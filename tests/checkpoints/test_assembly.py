"""Assembling a merge: the one formula, its rounding, the checks on what comes, the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoint_samples import MERGED, NORM, UP, random_tensors, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from mergebench_core.checkpoints.assembly import Assembly, NonFiniteMerge, UpdateCache, merged_values
from mergebench_core.checkpoints.policy import merge_plan
from mergebench_core.errors import ProtocolError


class MemorySink:
    """Keeps what was written, flat, by name."""

    def __init__(self) -> None:
        self.values: dict[str, torch.Tensor] = {}

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        assert offset == (self.values[name].numel() if name in self.values else 0)
        self.values[name] = torch.cat([self.values[name], values]) if offset else values.clone()


@pytest.fixture
def base(tmp_path):
    return write_checkpoint(tmp_path / "base", random_tensors(0))


def assemble(base, coefficient, cache=None) -> tuple[Assembly, MemorySink]:
    sink = MemorySink()
    entries = merge_plan(base, frozenset({"embedding", "head"})).merged
    return Assembly(base=base, entries=entries, sink=sink, coefficient=coefficient, cache=cache), sink


def give(assembly: Assembly, name: str, offset: int, values: torch.Tensor) -> None:
    assembly.expect(name, offset, values.numel())
    assembly.add(name, offset, values)


def give_all(assembly: Assembly, values: dict[str, torch.Tensor], size: int = 5) -> None:
    for name in reversed(MERGED):
        for number, part in enumerate(values[name].flatten().split(size)):
            give(assembly, name, number * size, part)


def to_bf16(value: np.float32) -> float:
    """Round to nearest, ties to even, on the bits."""
    bits = int(np.float32(value).view(np.uint32))
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    return float(np.uint32(bits & 0xFFFFFFFF).view(np.float32))


@pytest.mark.parametrize(
    ("base", "update", "coefficient", "merged"),
    [
        (1.0, 2.0, 0.5, 2.0),  # the mean of specialists 2 and 4: task vectors 1 and 3
        (1.0, 4.0, 1.0, 5.0),
        (1.0, 2**-8, 1.0, 1.0),  # half a bf16 step: to even, down
        (1.0078125, 2**-8, 1.0, 1.015625),  # half a step: to even, up
        (1.0, 2**-8 + 2**-20, 1.0, 1.0078125),  # a little more than half
        (1.0, 2**-7, 0.25, 1.0),
        (-3.0, 0.0, 0.7, -3.0),
    ],
)
def test_worked_by_hand_in_bf16(base, update, coefficient, merged):
    found = merged_values(torch.tensor([base]).bfloat16(), torch.tensor([update]), coefficient)
    assert found.dtype == torch.bfloat16
    assert found.tolist() == [merged]


def test_product_is_rounded_before_the_sum():
    """A fused multiply-add would leave 2**-24."""
    factor = 1 + 2**-12
    assert merged_values(torch.tensor([-(1 + 2**-11)]), torch.tensor([factor]), factor).tolist() == [0.0]


@settings(max_examples=100, deadline=None)
@given(*[st.floats(-1e6, 1e6, width=32)] * 2, st.floats(-4, 4))
def test_equals_float64_rounded_at_each_step(base, update, coefficient):
    stored = to_bf16(np.float32(base))
    product = np.float32(np.float64(update) * np.float64(np.float32(coefficient)))
    total = np.float32(np.float64(product) + np.float64(stored))
    values = torch.full((19,), update)  # long enough for vector instructions and a rest
    found = merged_values(torch.full((19,), stored).bfloat16(), values, coefficient)
    assert set(found.tolist()) == {to_bf16(total)}
    assert set(merged_values(torch.full((19,), stored), values, coefficient).tolist()) == {float(total)}
    assert values[0] == update


def test_pieces_come_in_any_order_of_tensors(base):
    updates = {name: tensor.float() for name, tensor in random_tensors(4).items()}
    assembly, sink = assemble(base, 0.3)
    give_all(assembly, updates)
    assembly.finish()
    assert set(sink.values) == set(MERGED)
    for name in MERGED:
        expected = merged_values(base.tensor(name), updates[name], 0.3).flatten()
        assert torch.equal(sink.values[name], expected)


def test_final_values_pass_unchanged(base):
    finals = random_tensors(9)
    assembly, sink = assemble(base, None)
    assert assembly.dtype(NORM) == torch.bfloat16
    assert assemble(base, 1.0)[0].dtype(NORM) == torch.float32
    give_all(assembly, finals, 24)
    assembly.finish()
    assert all(torch.equal(sink.values[name], finals[name].flatten()) for name in MERGED)


@pytest.mark.parametrize(
    ("name", "offset", "numel", "message"),
    [
        ("nope", 0, 1, "policy does not merge"),
        ("lm_head.weight", 0, 1, "policy does not merge"),
        (None, 0, 1, "policy does not merge"),
        (["a"], 0, 1, "policy does not merge"),
        (UP, 3, 1, "out of order"),
        (UP, -1, 1, "out of order"),
        (UP, "0", 1, "out of order"),
        (UP, False, 1, "out of order"),
        (UP, 0, 1.0, "out of order"),
        (UP, 0, None, "out of order"),
        (UP, 0, 25, "runs over its end"),
        (UP, 0, 0, "runs over its end"),
        (UP, 0, -4, "runs over its end"),
    ],
)
def test_unexpected_pieces(base, name, offset, numel, message):
    with pytest.raises(ProtocolError, match=message):
        assemble(base, 1.0)[0].expect(name, offset, numel)


def test_repeated_and_overrunning_pieces(base):
    assembly, _ = assemble(base, 1.0)
    give(assembly, UP, 0, torch.zeros(20))
    for offset, numel, message in ((0, 20, "out of order"), (20, 5, "over its end"), (24, 1, "out of order")):
        with pytest.raises(ProtocolError, match=message):
            assembly.expect(UP, offset, numel)
    give(assembly, UP, 20, torch.zeros(4))
    with pytest.raises(ProtocolError, match="over its end"):
        assembly.expect(UP, 24, 1)


def test_missing_part_is_named(base):
    assembly, _ = assemble(base, 1.0)
    for name in MERGED:
        if name != NORM:
            give(assembly, name, 0, torch.zeros(base.entry(name).numel))
    give(assembly, NORM, 0, torch.zeros(3))
    with pytest.raises(ProtocolError, match=f"gave 3 of 4 elements of '{NORM}'"):
        assembly.finish()


@pytest.mark.parametrize(("value", "coefficient"), [(float("nan"), 1.0), (float("inf"), 1.0), (3e38, 3.0)])
def test_nothing_is_written_from_the_first_nan_on(base, value, coefficient):
    assembly, sink = assemble(base, coefficient)
    updates = {name: torch.zeros(base.entry(name).numel) for name in MERGED}
    updates[UP][7] = value
    give_all(assembly, updates)
    assert sink.values[UP].numel() == 5
    with pytest.raises(NonFiniteMerge, match=f"tensor '{UP}' of the merged model holds NaN or infinity"):
        assembly.finish()


def test_replayed_update_equals_a_fresh_one(base):
    updates = {name: tensor.float() for name, tensor in random_tensors(4).items()}
    cache = UpdateCache(1 << 20)
    first, first_sink = assemble(base, 0.3, cache)
    give_all(first, updates)
    cache.seal("key")
    assert cache.holds("key")
    assert not cache.holds("other")
    for coefficient in (0.3, 1.7):
        replayed, replayed_sink = assemble(base, coefficient)
        cache.replay(replayed)
        replayed.finish()
        fresh, fresh_sink = assemble(base, coefficient)
        give_all(fresh, updates)
        assert all(torch.equal(replayed_sink.values[name], fresh_sink.values[name]) for name in MERGED)
    assert not torch.equal(replayed_sink.values[UP], first_sink.values[UP])
    cache.clear()
    assert not cache.holds("key")


def test_cache_over_its_limit_keeps_nothing(base):
    updates = {name: torch.ones(base.entry(name).numel) for name in MERGED}
    num_bytes = sum(update.nbytes for update in updates.values())
    for limit, is_kept in ((num_bytes, True), (num_bytes - 1, False)):
        cache = UpdateCache(limit)
        give_all(assemble(base, 1.0, cache)[0], updates)
        cache.seal("key")
        assert cache.holds("key") is is_kept
