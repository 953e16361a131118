"""Builds the whole track from nothing: models, calibration samples and items."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.tracks.digests import file_digests
from mergebench_core.tracks.mini_v1 import DIGEST_PATTERNS
from mergebench_core.tracks.mini_v1.recipe.documents import DOMAINS, write_documents
from mergebench_core.tracks.mini_v1.recipe.finetuning import (
    FinetuningRecipe,
    finetune,
    multitask_examples,
    training_examples,
)
from mergebench_core.tracks.mini_v1.recipe.items import ITEM_SETS
from mergebench_core.tracks.mini_v1.recipe.pretraining import MAX_LENGTH, BaseRecipe, pretrain
from mergebench_core.tracks.mini_v1.recipe.tokenizer import build_tokenizer
from mergebench_core.tracks.mini_v1.recipe.world import Example, World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Progress = Callable[[str], None]
SALT, SEED = "mini-v1/2026-11", 0
"""What the shipped track was built with."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All numbers of a build."""

    bases: tuple[BaseRecipe, ...] = (
        BaseRecipe(name="mini-llama", architecture="llama", num_steps=3900),
        BaseRecipe(name="mini-gemma", architecture="gemma2", num_steps=3000),
    )
    specialist: FinetuningRecipe = field(default_factory=FinetuningRecipe)
    multitask: FinetuningRecipe = field(default_factory=lambda: FinetuningRecipe(num_steps=300))
    num_vocabulary_documents: int = 30_000


NUM_CALIBRATION_SAMPLES = 1000


def build(
    folder: Path, *, progress: Progress, salt: str = SALT, seed: int = SEED, plan: Plan | None = None
) -> None:
    """Write `models/`, `calibration/` and `tasks/items/` of a new track below `folder`.

    The salt fixes facts, slices and items; the seed fixes weights, row orders and example streams. One
    thread is used, since the number of threads changes sums. About 10 minutes of one core.
    """
    _prepare_process()
    world = World(salt=salt)
    copy_tasks(folder)
    write_items(folder, world)
    write_calibration(folder, world, seed)
    progress("items and calibration samples written")
    plan = plan or Plan()
    tokenizer = track_tokenizer(world, plan.num_vocabulary_documents)
    for recipe in plan.bases:
        home = folder / "models" / recipe.name
        build_base(home, recipe, tokenizer, world, seed, progress)
        build_specialists(home, plan, world, seed, progress)
    write_digests(folder)


def _prepare_process() -> None:
    import torch
    from datasets import disable_progress_bars
    from transformers.utils import logging

    disable_progress_bars()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)


def copy_tasks(folder: Path) -> None:
    """Copy the YAML and Python files of the tasks, which no salt changes, to `tasks/`."""
    source = Path(__file__).parents[1] / "tasks"
    target = folder / "tasks"
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path.parent.resolve() != target.resolve():
            shutil.copyfile(path, target / path.name)


def write_items(folder: Path, world: World) -> None:
    """Write the items of every task to `tasks/items/<task>.jsonl`."""
    for name, item_set in ITEM_SETS.items():
        _write_rows(folder / "tasks" / "items" / f"{name}.jsonl", item_set.items(world, name))


def write_calibration(folder: Path, world: World, seed: int) -> None:
    """Write 1,000 fine-tuning examples per domain to `calibration/<domain>.jsonl`."""
    for domain in DOMAINS:
        examples = training_examples(world, domain, NUM_CALIBRATION_SAMPLES, seed)
        rows = [{"prompt": example.prompt, "completion": example.completion} for example in examples]
        _write_rows(folder / "calibration" / f"{domain}.jsonl", rows)


def _write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def track_tokenizer(world: World, num_documents: int = Plan.num_vocabulary_documents) -> PreTrainedTokenizerFast:
    """Return the tokenizer of the track, shared by all its models."""
    texts = write_documents(world, num_documents, seed=0)
    for domain in DOMAINS:
        texts += [example.document for example in training_examples(world, domain, num_documents // 12, seed=0)]
    return build_tokenizer(texts, MAX_LENGTH)


def build_base(
    home: Path,
    recipe: BaseRecipe,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    seed: int,
    progress: Progress,
) -> None:
    """Pretrain one base model and write it to `home/base`."""
    documents = write_documents(world, recipe.num_documents, seed=seed + 10)
    base = pretrain(recipe, tokenizer, documents, seed, progress)
    save_model(base, tokenizer, home / "base")


def build_specialists(home: Path, plan: Plan, world: World, seed: int, progress: Progress) -> None:
    """Fine-tune the specialists and the multi-task model of a family from `home/base`."""
    for domain in DOMAINS:
        examples = training_examples(world, domain, plan.specialist.num_examples, seed)
        _finetune_from(home, domain, examples, plan.specialist, seed)
        progress(f"{home.name}: specialist {domain} written")
    examples = multitask_examples(world, plan.multitask.num_examples, seed)
    _finetune_from(home, "multitask", examples, plan.multitask, seed)
    progress(f"{home.name}: multitask written")


def _finetune_from(home: Path, name: str, examples: list[Example], recipe: FinetuningRecipe, seed: int) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(home / "base")
    model = AutoModelForCausalLM.from_pretrained(home / "base")
    finetune(model, tokenizer, examples, recipe, seed)
    _save_weights(model, home / name)
    for path in (home / "base").glob("tokenizer*"):  # saved again, it would name how it was loaded
        shutil.copyfile(path, home / name / path.name)


def write_digests(folder: Path) -> None:
    """Write `digests.json`, the sha256 of every file of the track that can move a score."""
    digests = file_digests(folder, DIGEST_PATTERNS)
    (folder / "digests.json").write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def save_model(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model and its tokenizer to `folder` as one safetensors file and JSON files."""
    _save_weights(model, folder)
    tokenizer.save_pretrained(folder)


def _save_weights(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # it is written for the owner alone
