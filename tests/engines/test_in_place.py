"""The check of engines that take weights in place, on tiny models: what it lets pass, and what it finds."""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import CheckpointError, EngineError, InputError
from mergebench_core.evaluation.engines.comparison import PROMPTS, differences, fingerprint
from mergebench_core.evaluation.engines.hf import HfEngine
from mergebench_core.evaluation.engines.in_place import InPlaceCheck
from mergebench_core.evaluation.engines.weight_folders import WeightFolders


@pytest.fixture
def check(toy_track, start):
    """Return a function that makes the check of an engine on a base, with the folders that it opens."""

    def make(name, base="toy-untied", **changes):
        paths = toy_track.bases[base]
        opened = []

        def open_one(path):
            opened.append(path)
            return start(path, name=name)

        parts = {"base": Checkpoint(paths.path), "specialist": Checkpoint(paths.specialists["math"]), **changes}
        return InPlaceCheck(engine=name, domain="math", open_engine=open_one, **parts), opened

    return make


@pytest.mark.parametrize("base", ["toy-untied", "toy-tied"])
@pytest.mark.parametrize("name", ["hf", "vllm"])
def test_an_engine_that_is_right_passes_and_has_the_base_s_weights(check, start, tmp_path, name, base):
    found, opened = check(name, base)
    engine = found.engine_on_base(tmp_path / "compared")
    assert opened == [tmp_path / "compared", found.base.path]
    assert not (tmp_path / "compared").exists()
    assert list(tmp_path.glob(".*")) == []
    marks = [fingerprint(one.language_model(), PROMPTS[:2]) for one in (engine, start(found.base.path, name=name))]
    assert differences(*marks, 1e-4) == []


def test_what_is_compared_is_a_merge(check, tmp_path):
    """The file has the specialist's values where methods merge, and the base's elsewhere, files included."""
    found, _ = check("hf")
    seen = {}

    def look(path):
        merged = Checkpoint(path)
        seen.update({name: merged.tensor(name) for name in merged.names})
        seen["files"] = {file.name for file in path.iterdir()}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataclasses.replace(found, open_engine=look).engine_on_base(tmp_path / "compared")
    assert not (tmp_path / "compared").exists()
    assert seen.pop("files") == {path.name for path in found.base.path.iterdir()}
    for name, values in seen.items():
        origin = found.base if "embed" in name or "lm_head" in name else found.specialist
        assert (values - origin.tensor(name)).abs().max() < 1e-6, name


def test_a_buffer_lost_in_sleep_is_found(check, vllm, tmp_path, monkeypatch):
    wake_up = vllm.LLM.wake_up

    def wake_without_positions(self, tags=None):
        self._model.model.rotary_emb.inv_freq.zero_()
        return wake_up(self, tags)

    monkeypatch.setattr(vllm.LLM, "wake_up", wake_without_positions)
    found, _ = check("vllm")
    with pytest.raises(
        EngineError, match=r"^engine vllm does not take weights in place: prompt \d .*; use --engine hf"
    ):
        found.engine_on_base(tmp_path / "compared")
    assert [engine.is_alive for engine in vllm.ENGINES[-2:]] == [False, False]
    assert list(tmp_path.glob("vllm-*")) == []


def test_weights_that_are_not_taken_awake_are_found(check, vllm, tmp_path, monkeypatch):
    reload = vllm.LLM.reload_weights
    monkeypatch.setattr(
        vllm.LLM, "reload_weights", lambda self, weights_path: self._asleep and reload(self, weights_path)
    )
    found, _ = check("vllm")
    with pytest.raises(EngineError, match="does not take weights in place"):
        found.engine_on_base(tmp_path / "compared")


def test_a_stale_prefix_cache_is_found(check, vllm, tmp_path, monkeypatch):
    begin = vllm.LLM.__init__

    def begin_with_a_cache(self, *arguments, **settings):
        begin(self, *arguments, **{**settings, "enable_prefix_caching": True})

    monkeypatch.setattr(vllm.LLM, "__init__", begin_with_a_cache)
    monkeypatch.setattr(vllm.LLM, "reset_prefix_cache", lambda self: True)
    found, _ = check("vllm")
    with pytest.raises(EngineError, match="is continued with"):
        found.engine_on_base(tmp_path / "compared")


@pytest.mark.parametrize(("name", "kind"), [("hf", HfEngine), ("vllm", WeightFolders)])
def test_a_tensor_that_does_not_arrive_is_found(check, tmp_path, monkeypatch, name, kind):
    write = kind.write
    lost = "model.layers.1.mlp.up_proj.weight"
    monkeypatch.setattr(kind, "write", lambda self, one, *rest: None if one == lost else write(self, one, *rest))
    found, _ = check(name)
    with pytest.raises(EngineError, match=f"^engine {name} does not take weights in place"):
        found.engine_on_base(tmp_path / "compared")


def test_a_specialist_that_does_not_fit_is_named(check, toy_track, tmp_path):
    found, _ = check("hf", specialist=Checkpoint(toy_track.bases["toy-tied"].path), base="toy-untied")
    found.engine_on_base(tmp_path / "compared")  # a tied one has no head, which no method merges
    entries = dict(found.specialist.entries)
    entries.pop("model.norm.weight")
    found.specialist.entries = entries
    with pytest.raises(CheckpointError, match=r"specialist 'math' .*tensor 'model.norm.weight' is missing"):
        found.engine_on_base(tmp_path / "compared")


def test_a_full_disk_is_one_line(check, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found, opened = check("hf")
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\); make room there"):
        found.engine_on_base(tmp_path / "compared")
    assert opened == []
