"""The weights digest: what it depends on and what it does not."""

from __future__ import annotations

import hashlib

import pytest
import torch
from checkpoint_samples import NORM, UP, random_tensors, write_checkpoint, write_in_order

from mergebench_core.checkpoints.digest import WeightsDigest, weights_sha256


def test_independent_of_sharding_and_order(tmp_path):
    tensors = random_tensors(0)
    backwards = dict(reversed(tensors.items()))
    digests = {
        weights_sha256(write_checkpoint(tmp_path / "one", tensors)),
        weights_sha256(write_checkpoint(tmp_path / "three", tensors, num_shards=3)),
        weights_sha256(write_in_order(tmp_path / "forwards", tensors)),
        weights_sha256(write_in_order(tmp_path / "backwards", backwards)),
    }
    assert len(digests) == 1


def test_worked_by_hand(tmp_path):
    """The definition, spelled out once more on two tensors."""
    tensors = {"b": torch.tensor([[1.0], [2.0]]), "a": torch.empty(0, 3)}
    inner = hashlib.sha256(bytes.fromhex("0000803f00000040")).hexdigest()
    text = f"a F32 0x3 {hashlib.sha256().hexdigest()}\nb F32 2x1 {inner}\n"
    assert weights_sha256(write_checkpoint(tmp_path, tensors)) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[UP].view(-1)[3].add_(1),
        lambda t: t.update({UP: t[UP].view(4, 6)}),
        lambda t: t.update({UP: t[UP].view(torch.float16)}),
        lambda t: t.update({"other": t.pop(NORM)}),
        lambda t: t.pop(NORM),
    ],
    ids=["value", "shape", "dtype", "name", "missing"],
)
def test_depends_on_everything_else(tmp_path, change):
    tensors = random_tensors(0)
    before = weights_sha256(write_checkpoint(tmp_path / "a", tensors))
    change(tensors)
    assert weights_sha256(write_checkpoint(tmp_path / "b", tensors)) != before


def test_grows_piece_by_piece_with_tensors_interleaved(tmp_path):
    checkpoint = write_checkpoint(tmp_path, random_tensors(0))
    digest = WeightsDigest()
    for offset in range(0, 24, 5):
        for name, entry in checkpoint.entries.items():
            count = min(5, entry.numel - offset)
            if count > 0:
                digest.add(entry, checkpoint.read(name, offset, count))
    for name, entry in checkpoint.entries.items():
        if entry.numel > 25:
            digest.add(entry, checkpoint.read(name, 25, entry.numel - 25))
    assert digest.hexdigest() == weights_sha256(checkpoint)
