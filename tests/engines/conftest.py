"""Engines on the toy track; vLLM is the stand-in of `fake_vllm`."""

from __future__ import annotations

import sys
from pathlib import Path

import fake_vllm
import pytest
from lm_eval.api.instance import Instance

from mergebench_core.evaluation.engines.engine import open_engine


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory):
    """Put the stand-in where `import vllm` finds it, whether or not the real one is installed."""
    place = tmp_path_factory.mktemp("packages")
    fake_vllm.write_metadata(place)
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "vllm"}
    fake_vllm.forget_wrapper()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        for name, module in fake_vllm.modules().items():
            patch.setitem(sys.modules, name, module)
        yield fake_vllm
    fake_vllm.forget_wrapper()
    sys.modules.update(hidden)


@pytest.fixture
def start(vllm, toy_track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that opens an engine on a folder; all are closed in the end."""
    import torch

    opened = []

    def open_one(path: Path, settings=toy_track.evaluation, name="vllm"):
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: name == "vllm")
            opened.append(open_engine(name, path, settings, tmp_path))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.close()


@pytest.fixture(scope="session")
def generate():
    """Return a function that lets a language model answer prompts, each on its own terms."""

    def answers(language_model, prompts, **settings):
        asked = {"until": [], "max_gen_toks": 8, **settings}
        requests = [
            Instance(request_type="generate_until", doc={}, arguments=(prompt, dict(asked)), idx=0)
            for prompt in prompts
        ]
        return language_model.generate_until(requests, disable_tqdm=True)

    return answers
