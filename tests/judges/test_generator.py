"""Generators: batches give what single prompts give, cutting keeps the beginning, vLLM sees the same tokens."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import save_model, tiny_llama

from mergebench_core.errors import CheckpointError, InputError, MergebenchError
from mergebench_core.evaluation.judges.generator import (
    TransformersGenerator,
    VllmGenerator,
    batches,
    find_device,
)

PROMPTS = ["a", "Is it?", "A longer prompt than the others", "é", "Is it?", "b c d e f"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random model, whose settings ask for sampling as many a model card's do."""
    folder = tmp_path_factory.mktemp("judge")
    model = tiny_llama(7)
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9, eos_token_id=2)
    save_model(folder, model)
    return folder


def one_by_one(folder, max_tokens: int) -> list[str]:
    """Greedy decoding spelled out: the whole prompt again for each token, no padding, no cache."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    model, tokenizer = LlamaForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = []
    for prompt in PROMPTS:
        tokens = tokenizer(prompt)["input_ids"]
        start = len(tokens)
        while len(tokens) < start + max_tokens and (len(tokens) == start or tokens[-1] != 2):
            with torch.inference_mode():
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        texts.append(tokenizer.decode(tokens[start:], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_batches_give_what_single_prompts_give(folder, batch_tokens):
    generator = TransformersGenerator(folder, "cpu", batch_tokens=batch_tokens)
    assert generator.dtype == "float32"
    written = generator.generate(PROMPTS, 8)
    assert written == one_by_one(folder, 8)
    assert len(set(written)) > 2
    assert written[1] == written[4]
    assert generator.generate([], 8) == []


def test_special_tokens_are_written_once(folder):
    prompts = TransformersGenerator(folder, "cpu").prompts
    start = prompts.tokenizer.bos_token_id
    prompts.tokenizer.add_bos_token = True
    assert prompts.encode("<s>ab")[0] == start
    assert prompts.encode("<s>ab").count(start) == 1
    assert prompts.context_tokens == 64


def test_cutting_keeps_the_beginning(folder):
    generator = TransformersGenerator(folder, "cpu")
    assert generator.cut("abcdef", 3) == "abc"
    assert generator.cut("abc", 3) == "abc"
    assert generator.cut("abc", 0) == ""
    assert generator.cut("abc", -5) == ""
    assert generator.num_tokens("abc") == len("abc")


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 8), st.integers(1, 200))
def test_every_prompt_is_in_one_batch_that_fits(lengths, max_tokens, batch_tokens):
    found = list(batches(lengths, max_tokens, batch_tokens))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        padded = len(batch) * (max(lengths[index] for index in batch) + max_tokens)
        assert padded <= batch_tokens or len(batch) == 1
    flat = [lengths[index] for batch in found for index in batch]
    assert flat == sorted(lengths, reverse=True)


def test_no_model_is_one_line(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"the judge's model cannot be loaded \(.*\); fetch it again$"
    ) as error:
        TransformersGenerator(tmp_path, "cpu").generate(["a"], 1)
    assert "\n" not in str(error.value)


def test_tokenizer_without_weights_is_one_line(folder, tmp_path):
    for path in folder.iterdir():
        if not path.name.endswith("safetensors"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="the judge's model cannot be loaded") as error:
        TransformersGenerator(tmp_path, "cpu").generate(["a"], 1)
    assert "\n" not in str(error.value)


def test_out_of_memory_is_one_line(folder, monkeypatch):
    import torch

    generator = TransformersGenerator(folder, "cpu")

    def fail(**_):
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(generator.model, "generate", fail)
    with pytest.raises(MergebenchError, match="does not fit in the memory of cpu; free some"):
        generator.generate(["a"], 1)


def test_devices(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert find_device(None) == "cpu"
    with pytest.raises(InputError, match="device 'cuda:1' is not there: torch sees 0 GPUs"):
        find_device("cuda:1")
    with pytest.raises(InputError, match="device 'gpu' is no device of torch"):
        find_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (find_device(None), find_device("cuda:1"), find_device("cpu")) == ("cuda", "cuda:1", "cpu")


@pytest.fixture
def vllm(monkeypatch) -> ModuleType:
    """A stand-in for vLLM that remembers what it was asked and answers with the number of tokens."""
    module = ModuleType("vllm")

    class LLM:
        def __init__(self, **settings):
            module.settings = settings

        def generate(self, prompts, settings, use_tqdm):
            module.prompts, module.sampling = prompts, settings
            assert not use_tqdm
            return [
                SimpleNamespace(outputs=[SimpleNamespace(text=str(len(prompt["prompt_token_ids"])))])
                for prompt in prompts
            ]

    module.LLM, module.SamplingParams = LLM, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def test_vllm_is_greedy_and_sees_the_same_tokens(folder, vllm):
    generator = VllmGenerator(folder, gpu_memory_fraction=0.4)
    assert generator.generate(PROMPTS, 5) == [str(len(prompt.encode())) for prompt in PROMPTS]
    assert vllm.prompts[0] == {"prompt_token_ids": TransformersGenerator(folder, "cpu").prompts.encode("a")}
    assert vars(vllm.sampling) == {"temperature": 0.0, "max_tokens": 5, "skip_special_tokens": True}
    assert vllm.settings == {
        "model": str(folder),
        "dtype": "bfloat16",
        "seed": 0,
        "max_model_len": 64,
        "gpu_memory_utilization": 0.4,
    }


def test_vllm_that_fails_is_one_line(folder, vllm):
    def fail(**_):
        raise ValueError("no\nroom")

    vllm.LLM = fail
    with pytest.raises(CheckpointError, match=r"the judge's model cannot be loaded \(no room\)"):
        VllmGenerator(folder).generate(["a"], 1)


def test_no_vllm(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(
        InputError, match="the engine vllm is not installed; install vllm, or choose the engine hf"
    ):
        VllmGenerator(folder).generate(["a"], 1)
