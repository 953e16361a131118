"""Reading checkpoints: shards, dtypes, pieces, and what is no checkpoint."""

from __future__ import annotations

import json

import pytest
import torch
from checkpoint_samples import NORM, UP, random_tensors, write_checkpoint, write_in_order

from mergebench_core.checkpoints.checkpoint import INDEX, SINGLE, Checkpoint, pieces
from mergebench_core.errors import CheckpointError


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_tensors_come_back_in_dtype_and_shape(tmp_path, num_shards, dtype):
    tensors = random_tensors(0, dtype)
    checkpoint = write_checkpoint(tmp_path, tensors, num_shards=num_shards)
    assert set(checkpoint.names) == set(tensors) == set(checkpoint.entries)
    for name, tensor in tensors.items():
        found = checkpoint.tensor(name)
        assert found.dtype == dtype
        assert torch.equal(found, tensor)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.float64])
def test_other_dtypes_and_scalars(tmp_path, dtype):
    tensors = {
        "a": torch.tensor([1, 0, 1]).to(dtype),
        "b": torch.tensor(1).to(dtype),
        "c": torch.empty(0, 2).to(dtype),
    }
    checkpoint = write_checkpoint(tmp_path, tensors)
    for name, tensor in tensors.items():
        assert torch.equal(checkpoint.tensor(name), tensor)
        assert checkpoint.tensor(name).dtype == dtype


def test_pieces_put_together_are_the_tensor(tmp_path):
    tensors = random_tensors(0)
    checkpoint = write_checkpoint(tmp_path, tensors)
    for size in (1, 7, 24, 100):
        parts = list(pieces(checkpoint.entry(UP), size))
        assert max(part.numel for part in parts) <= size
        whole = torch.cat([checkpoint.read(UP, part.offset, part.numel) for part in parts])
        assert torch.equal(whole, tensors[UP].flatten())


@pytest.mark.parametrize(("offset", "numel"), [(-1, 2), (0, 25), (24, 1), (30, -6)])
def test_reading_stays_within_the_tensor(tmp_path, offset, numel):
    checkpoint = write_checkpoint(tmp_path, random_tensors(0))
    with pytest.raises(AssertionError):
        checkpoint.read(UP, offset, numel)


def test_names_follow_the_data_shard_by_shard(tmp_path):
    tensors = random_tensors(0)
    backwards = dict(reversed(tensors.items()))
    assert write_in_order(tmp_path / "one", backwards).names == tuple(backwards)
    names = write_checkpoint(tmp_path / "two", tensors, num_shards=2).names
    assert set(names[:4]) == set(list(tensors)[0::2])


def test_closed_checkpoint_opens_again(tmp_path):
    checkpoint = write_checkpoint(tmp_path, random_tensors(0))
    first = checkpoint.tensor(NORM)
    checkpoint.close()
    checkpoint.close()
    assert torch.equal(checkpoint.tensor(NORM), first)


def test_file_that_shrinks_is_named(tmp_path):
    checkpoint = write_checkpoint(tmp_path, random_tensors(0))
    last = checkpoint.names[-1]
    with (tmp_path / SINGLE).open("r+b") as file:
        file.truncate(checkpoint.entry(last).start + 1)
    with pytest.raises(CheckpointError, match=f"ends within tensor '{last}'"):
        checkpoint.tensor(last)


def test_unknown_tensor(tmp_path):
    with pytest.raises(CheckpointError, match="has no tensor 'nope'"):
        write_checkpoint(tmp_path, random_tensors(0)).tensor("nope")


def test_no_folder_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        Checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        Checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"found pytorch_model\.bin; convert them"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '"text"'])
def test_broken_index(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match="no index of shards"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "..", "sub/model.safetensors"])
def test_index_cannot_name_a_file_outside(tmp_path, shard):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="names a file outside the folder"):
        Checkpoint(tmp_path)


def test_missing_shard_is_named(tmp_path):
    write_checkpoint(tmp_path, random_tensors(0), num_shards=2)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors: cannot be read"):
        Checkpoint(tmp_path)


def test_tensor_in_two_shards(tmp_path):
    write_checkpoint(tmp_path, random_tensors(0), num_shards=2)
    first, second = sorted(tmp_path.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match="stands in two shards"):
        Checkpoint(tmp_path)
