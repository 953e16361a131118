"""Judges with a model give the accelerator's memory back, and take it again when they are asked."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from mergebench_judges import refusal_phrases
from tiny_llama import save_model, tiny_llama

from mergebench_core.errors import CheckpointError, InputError, MergebenchError
from mergebench_core.evaluation.judges.factory import JudgeSettings
from mergebench_core.evaluation.judges.generator import TransformersGenerator, VllmGenerator
from mergebench_core.evaluation.judges.judge import Exchange, ParkableJudge, Verdict
from mergebench_core.evaluation.judges.model_judge import Instruction, ModelJudge


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    save_model(folder, tiny_llama(7))
    return folder


@pytest.fixture
def moves(monkeypatch) -> list[str]:
    """Every device that a model was moved to; `meta` stands for a GPU."""
    from transformers import PreTrainedModel

    found = []
    monkeypatch.setattr(PreTrainedModel, "to", lambda self, device: found.append(str(device)) or self)
    return found


def test_a_model_is_on_its_device_only_while_it_writes(folder, moves):
    generator = TransformersGenerator(folder, "cpu")
    expected = generator.generate(["a"], 4)
    generator.device = "cpu:0"
    moves.clear()
    generator.park()
    assert moves == ["cpu"]
    assert generator.generate(["a"], 4) == expected
    assert moves == ["cpu", "cpu:0"]


def test_a_model_that_was_not_loaded_is_not_loaded_to_be_parked(tmp_path):
    TransformersGenerator(tmp_path / "nothing", "cpu").park()
    VllmGenerator(tmp_path / "nothing").park()


def test_no_room_to_wake_is_one_line(folder, monkeypatch):
    import torch

    generator = TransformersGenerator(folder, "cpu")
    generator.generate(["a"], 1)
    generator.park()

    def fail(device):
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(generator.model, "to", fail)
    with pytest.raises(MergebenchError, match="does not fit in the memory of cpu; free some"):
        generator.generate(["a"], 1)


def test_a_judge_with_a_model_parks_it():
    parked = []
    generator = SimpleNamespace(
        context_tokens=100, num_tokens=len, cut=lambda text, n: text[:n], park=lambda: parked.append(1)
    )
    generator.generate = lambda prompts, max_tokens: ["yes"] * len(prompts)
    verdict = Verdict(is_refusal=True, is_harmful=None)
    instruction = Instruction(template="{request}{answer}", parse=lambda text: verdict, max_tokens=1)
    judge = ModelJudge(name="j", revision="1", instruction=instruction, generator=generator, progress=print)
    assert isinstance(judge, ParkableJudge)
    judge.park()
    assert parked == [1]
    assert judge.judge([Exchange(request="a", answer="b")]) == [verdict]


def test_a_judge_of_rules_has_nothing_to_park():
    judges = []
    refusal_phrases.mergebench_register_judges(judges.append)
    assert not isinstance(judges[0].open(JudgeSettings()), ParkableJudge)


@pytest.fixture
def vllm(monkeypatch) -> ModuleType:
    """A stand-in for vLLM that counts engines, started and ended."""
    module = ModuleType("vllm")
    module.started, module.ended = [], []

    class LLM:
        def __init__(self, **settings):
            module.started.append(settings)
            core = SimpleNamespace(shutdown=lambda: module.ended.append(settings))
            self.llm_engine = SimpleNamespace(engine_core=core)

        def generate(self, prompts, settings, use_tqdm):
            return [SimpleNamespace(outputs=[SimpleNamespace(text="x")]) for _ in prompts]

    module.LLM, module.SamplingParams = LLM, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def test_vllm_ends_and_starts_anew(folder, vllm):
    generator = VllmGenerator(folder)
    assert generator.generate(["a"], 1) == ["x"]
    generator.park()
    generator.park()
    assert (len(vllm.started), len(vllm.ended)) == (1, 1)
    assert generator.generate(["a"], 1) == ["x"]
    assert (len(vllm.started), len(vllm.ended)) == (2, 1)


@pytest.mark.parametrize(
    ("reason", "kind", "advice"),
    [
        ("Free memory on device (3.0/80 GiB) is less than desired", InputError, r"free the GPU, or let vLLM have"),
        (
            "Engine core initialization failed. See root cause above.",
            InputError,
            r"free the GPU, or let vLLM have",
        ),
        ("no such architecture", CheckpointError, "fetch it again"),
    ],
)
def test_vllm_that_finds_no_memory_says_what_helps(folder, vllm, reason, kind, advice):
    def fail(**_):
        raise ValueError(reason)

    vllm.LLM = fail
    with pytest.raises(kind, match=advice) as caught:
        VllmGenerator(folder).generate(["a"], 1)
    assert reason[:20] in str(caught.value)
