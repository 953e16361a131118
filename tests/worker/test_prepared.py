"""What prepare returned, on disk: a safetensors file that any library reads, written one tensor at a time."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from mergebench_core.errors import CheckpointError, PluginError
from mergebench_core.methods import Prepared
from mergebench_core.worker.prepared import release, store_prepared

SHARED = torch.arange(6.0)
TENSORS = {
    "mask": {"a": torch.tensor([True, False]), "b": torch.tensor([3, 1, 2], dtype=torch.uint8)},
    "gram": {"a": torch.arange(12.0).view(3, 4).T, "b": SHARED[:3], "c": SHARED, "none": torch.zeros(0, 4)},
    "half": {"a": torch.tensor(1.5).bfloat16()},
}


def test_any_library_reads_it(tmp_path):
    path = store_prepared(Prepared(data={"x": [1, 2.5]}, tensors=TENSORS), tmp_path)
    found = load_file(path / "model.safetensors")
    wanted = {f"{label}\n{name}": tensor for label, group in TENSORS.items() for name, tensor in group.items()}
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert json.loads((path / "data.json").read_text()) == {"x": [1, 2.5]}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_named_by_its_content(tmp_path):
    first = store_prepared(Prepared(data={"x": 1}, tensors=TENSORS), tmp_path)
    assert store_prepared(Prepared(data={"x": 1}, tensors=TENSORS), tmp_path) == first
    assert store_prepared(Prepared(data={"x": 2}, tensors=TENSORS), tmp_path) != first
    other = {**TENSORS, "half": {"a": torch.tensor(1.25).bfloat16()}}
    assert store_prepared(Prepared(data={"x": 1}, tensors=other), tmp_path) != first


def test_released_tensors_keep_their_values(tmp_path):
    mapped = torch.from_file(str(tmp_path / "file"), shared=True, size=100_000, dtype=torch.float32)
    mapped.copy_(torch.arange(100_000.0))
    for part in (mapped, mapped[7:], torch.ones(3)):
        before = part.clone()
        release(part)
        assert torch.equal(part, before)
    mapped += 1
    release(mapped)
    assert mapped[:3].tolist() == [1.0, 2.0, 3.0]


def test_what_cannot_be_stored(tmp_path):
    with pytest.raises(PluginError, match="finite JSON values"):
        store_prepared(Prepared(data={"x": float("nan")}), tmp_path)
    with pytest.raises(PluginError, match="is no tensor"):
        store_prepared(Prepared(tensors={"a": {"b": [1.0]}}), tmp_path)
    with pytest.raises(CheckpointError, match=r"dtype torch\.complex64 is not supported"):
        store_prepared(Prepared(tensors={"a": {"b": torch.zeros(1, dtype=torch.complex64)}}), tmp_path)
