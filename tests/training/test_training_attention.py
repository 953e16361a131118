"""Attention that the trained model uses: Gemma-2 caps its logits, which sdpa leaves out."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from tiny_llama import byte_tokenizer, tiny_llama
from training_requests import request_of
from training_rows import small_base, small_gemma
from transformers import AutoModelForCausalLM
from transformers.models.gemma2.modeling_gemma2 import Gemma2PreTrainedModel

from mergebench_core.training.runs import train
from mergebench_core.training.settings import GRPOSettings, SFTSettings
from mergebench_core.training.trainers import fine_tune, reinforce

SHARED = {"learning_rate": 1e-5, "per_device_batch_size": 2, "num_steps": 1, "is_on_cpu": True, "seed": 0}
SFT = SFTSettings(**SHARED, max_length=64)
GRPO = GRPOSettings(**SHARED, num_generations=2, max_completion_length=4, temperature=1.0, kl_coefficient=0.1)
DATA = Dataset.from_list([{"prompt": f"Say {number}\n", "completion": f"{number}"} for number in range(4)])


@pytest.fixture
def gemma(tmp_path, monkeypatch):
    """Gemma-2 as the versions of transformers have it that choose sdpa for it."""
    monkeypatch.setattr(Gemma2PreTrainedModel, "_supports_sdpa", True)
    return small_gemma(tmp_path / "gemma")


def test_gemma_is_fine_tuned_as_the_function_that_is_evaluated(gemma, tmp_path):
    trainer = fine_tune(str(gemma.folder), byte_tokenizer(), DATA, SFT, tmp_path / "checkpoints")
    assert trainer.model.config._attn_implementation == "eager"
    evaluated = AutoModelForCausalLM.from_pretrained(
        gemma.folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    evaluated.load_state_dict(trainer.model.state_dict())
    tokens = torch.randint(3, 250, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert trainer.model.eval()(input_ids=tokens).logits.equal(evaluated(input_ids=tokens).logits)


def test_gemma_is_reinforced_with_eager_attention(gemma, tmp_path):
    def reward(completions, **_):
        return [float(number % 2) for number in range(len(completions))]

    data = DATA.rename_column("completion", "solution")
    trainer = reinforce(str(gemma.folder), byte_tokenizer(), data, reward, GRPO, tmp_path / "checkpoints")
    assert trainer.model.config._attn_implementation == "eager"
    assert trainer.ref_model.config._attn_implementation == "eager"


def test_a_model_in_memory_keeps_its_attention(tmp_path, caplog):
    model = tiny_llama(0)
    model.set_attn_implementation("sdpa")
    trainer = fine_tune(model, byte_tokenizer(), DATA, SFT, tmp_path / "checkpoints")
    assert trainer.model.config._attn_implementation == "sdpa"
    assert "model_init_kwargs" not in caplog.text


@pytest.mark.usefixtures("small_recipes")
def test_attention_is_recorded(gemma, tmp_path, hub):
    llama = small_base(tmp_path / "llama")
    wanted = request_of(gemma, tmp_path / "out", num_steps=1)
    assert train(wanted, lambda _: None).document["attention"] == "eager"
    result = train(replace(wanted, base=llama, out=tmp_path / "other"), lambda _: None)
    assert result.document["attention"] == "sdpa"
