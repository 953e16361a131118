"""Models that were digested before are not read again, as long as no file of theirs has changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from checkpoint_samples import random_tensors, write_checkpoint

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.checkpoints.policy import merge_plan
from mergebench_core.errors import CheckpointError
from mergebench_core.merging import known_digests
from mergebench_core.merging.models import Model, open_model
from mergebench_core.merging.reading import InputReading


@pytest.fixture
def models(tmp_path, monkeypatch) -> dict[str, Model]:
    """A base and a specialist; files count as settled at once."""
    monkeypatch.setattr(known_digests, "SETTLED_NS", 0)
    for seed, name in enumerate(("base", "math")):
        write_checkpoint(tmp_path / name, random_tensors(seed))
    return {label: open_model(label, str(tmp_path / label), print) for label in ("base", "math")}


def digests(models: dict[str, Model]) -> dict[str, str]:
    return InputReading(models, merge_plan(models["base"].checkpoint, frozenset({"embedding", "head"}))).digests()


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the folders whose tensors are read."""
    found: list[str] = []
    read = Checkpoint.read

    def noted(self, name, offset, numel):
        found.append(self.path.name)
        return read(self, name, offset, numel)

    monkeypatch.setattr(Checkpoint, "read", noted)
    return found


def test_a_model_is_read_once(models, reads):
    first = digests(models)
    assert set(reads) == {"base", "math"}
    reads.clear()
    assert digests(models) == first
    assert reads == []
    assert first == {label: weights_sha256(Checkpoint(model.folder)) for label, model in models.items()}


@pytest.mark.parametrize("keeps_times", [False, True])
def test_a_changed_model_is_read_again(models, reads, keeps_times):
    """Also when its size and modification time are set back: the time of the change cannot be."""
    first = digests(models)
    file = models["math"].folder / "model.safetensors"
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    time.sleep(0.02)
    file.write_bytes(data)
    if keeps_times:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    reads.clear()
    second = digests(models)
    assert set(reads) == {"math"}
    assert second["base"] == first["base"]
    assert second["math"] != first["math"]


def test_a_file_that_has_just_changed_is_not_remembered(models, reads, monkeypatch):
    monkeypatch.setattr(known_digests, "SETTLED_NS", 3600 * 10**9)
    digests(models)
    reads.clear()
    digests(models)
    assert set(reads) == {"base", "math"}


def test_a_model_with_nan_is_refused_every_time(models):
    tensors = random_tensors(1)
    name = next(name for name in tensors if "proj" in name)
    tensors[name].view(-1)[3] = torch.nan
    write_checkpoint(models["math"].folder, tensors)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="NaN"):
            digests(models)


def test_without_a_home_everything_is_read(models, reads, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MERGEBENCH_HOME", str(tmp_path / "file" / "home"))
    first = digests(models)
    reads.clear()
    assert digests(models) == first
    assert set(reads) == {"base", "math"}


def test_a_torn_note_is_no_note(models, reads, own_home: Path):
    first = digests(models)
    for note in (own_home / "digests").iterdir():
        note.write_text(note.read_text()[:40])
    assert digests(models) == first
