"""Fine-tuning of specialists and of the multi-task model by the code that trains the paper's."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.tracks.mini_v1.recipe.documents import DOMAINS
from mergebench_core.tracks.mini_v1.recipe.world import Example, World, generator
from mergebench_core.training.settings import SFTSettings
from mergebench_core.training.trainers import fine_tune

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class FinetuningRecipe:
    """Settings of one fine-tuning run, the same for every domain."""

    num_steps: int = 100
    batch_size: int = 32
    learning_rate: float = 7e-4
    warmup_steps: int = 10

    @property
    def num_examples(self) -> int:
        """Examples seen, each drawn once."""
        return self.num_steps * self.batch_size


def training_examples(world: World, domain: str, num_examples: int, seed: int) -> list[Example]:
    """Return the fine-tuning examples of `domain` in the order of training."""
    rng = generator("training", world.salt, domain, seed)
    return [DOMAINS[domain].training(world, rng) for _ in range(num_examples)]


def multitask_examples(world: World, num_examples: int, seed: int) -> list[Example]:
    """Return the specialists' own examples in turns, so that no domain sees more than its specialist did."""
    streams = [training_examples(world, domain, -(-num_examples // len(DOMAINS)), seed) for domain in DOMAINS]
    return [example for row in zip(*streams, strict=True) for example in row][:num_examples]


def freeze_embeddings(model: Any) -> None:
    """Keep embeddings and head as the base has them: merges take these from the base as well."""
    model.get_input_embeddings().weight.requires_grad_(False)
    model.get_output_embeddings().weight.requires_grad_(False)


def _settings(recipe: FinetuningRecipe, seed: int) -> SFTSettings:
    return SFTSettings(
        num_steps=recipe.num_steps,
        per_device_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        schedule="linear",
        warmup=recipe.warmup_steps,
        adam_beta2=0.98,
        max_length=128,
        is_on_cpu=True,
        seed=seed,
    )


def finetune(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    examples: list[Example],
    recipe: FinetuningRecipe,
    seed: int,
) -> None:
    """Fine-tune `model` in place on `examples`, with the loss on completions and end tokens."""
    from datasets import Dataset

    freeze_embeddings(model)
    data = Dataset.from_list(
        [{"prompt": example.prompt, "completion": example.completion} for example in examples]
    )
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(model, tokenizer, data, _settings(recipe, seed), Path(folder))
    model.eval()
