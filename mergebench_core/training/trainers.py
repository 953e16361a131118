"""The one way from settings to a trained model, with TRL's trainers: both tracks go through it."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.errors import InputError
from mergebench_core.hub import Progress
from mergebench_core.training.answers import Reward
from mergebench_core.training.settings import GRPOSettings, SFTSettings, TrainerSettings

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

STATE = "trainer_state.json"
"""Written last into a checkpoint: one without it, or with a part of it, was interrupted."""
StepProgress = Callable[[int, int], None]
"""Called after every optimizer step with its number and the number of all."""


def fine_tune(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    data: Dataset,
    settings: SFTSettings,
    folder: Path,
    progress: StepProgress | None = None,
    note: Progress | None = None,
) -> Any:
    """Fine-tune a model on examples, going on from the last checkpoint in `folder`, and return the trainer.

    Args:
        model: a model, changed in place; or the folder of one, loaded in float32 once the devices are known.
        tokenizer: its tokenizer.
        data: columns `prompt` and `completion`; the loss is on completions and end tokens.
        settings: everything that moves the result.
        folder: where checkpoints are kept; unused if the settings want none.
        progress: told after every step.
        note: told if examples are left out.

    Raises:
        InputError: the prompt of every example fills a sequence.
    """
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    config = SFTConfig(
        **_shared(model, settings, folder),
        max_length=settings.max_length,
        completion_only_loss=True,
        packing=False,
    )
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    _check_examples(len(data), num_examples_trained(trainer), settings.max_length, note)
    return _train(trainer, folder, progress)


def reinforce(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    data: Dataset,
    reward: Reward,
    settings: GRPOSettings,
    folder: Path,
    progress: StepProgress | None = None,
) -> Any:
    """Train a model with GRPO as `fine_tune` does with SFT; `data` has `prompt` and what `reward` reads."""
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

    config = GRPOConfig(
        **_shared(model, settings, folder),
        num_generations=settings.num_generations,
        max_completion_length=settings.max_completion_length,
        temperature=settings.temperature,
        beta=settings.kl_coefficient,
    )
    trainer = GRPOTrainer(
        model=model, args=config, reward_funcs=reward, train_dataset=data, processing_class=tokenizer
    )
    with warnings.catch_warnings():
        # TRL 1.16 calls transformers 5 by names of before
        warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing", category=FutureWarning)
        return _train(trainer, folder, progress)


def num_examples_trained(trainer: Any) -> int:
    """Return how many examples a trainer has, after what TRL left out."""
    return len(trainer.train_dataset)


def _check_examples(num_examples: int, num_trained: int, max_length: int, note: Progress | None) -> None:
    words = left_out(num_examples, num_trained, max_length)
    if not num_trained:
        raise InputError(f"{words}; nothing is left to train on, check the tokenizer of the base")
    if words and note is not None:
        note(f"note: {words}")


def left_out(num_examples: int, num_trained: int, max_length: int) -> str | None:
    """Return in words how many examples TRL leaves out because no token of theirs would be learned; None: none."""
    if num_trained == num_examples:
        return None
    number = f"{num_examples - num_trained:,} of {num_examples:,} examples"
    return f"{number} left out: the prompt fills the {max_length} tokens of a sequence"


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint in `folder` that was written to its end."""
    steps = [
        int(path.name.rpartition("-")[2])
        for path in folder.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdecimal() and _is_whole(path)
    ]
    return folder / f"checkpoint-{max(steps)}" if steps else None


def remove_unfinished(folder: Path) -> None:
    """Remove checkpoints that were not written to their end.

    The trainer may take one for the newest, by its step, and remove each that it writes itself.
    """
    for path in folder.glob("checkpoint-*"):
        if not _is_whole(path):
            shutil.rmtree(path)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return True


def _checkpointing_name() -> str:
    """Return transformers' name for activation checkpointing, which changed within the versions that fit vLLM."""
    from transformers import TrainingArguments

    names = {field.name for field in fields(TrainingArguments)}
    return "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"


def _loading(model: Any) -> dict[str, str] | None:
    """Return how TRL is to load the model from its folder; None: as transformers chooses, or it is loaded."""
    from transformers import AutoConfig

    if not isinstance(model, str):
        return None
    configuration = AutoConfig.from_pretrained(model).get_text_config()
    # Gemma-2 caps its attention logits, which sdpa leaves out, in some versions without a word
    is_capped = getattr(configuration, "attn_logit_softcapping", None) is not None
    return {"attn_implementation": "eager"} if is_capped else None


def _shared(model: Any, settings: TrainerSettings, folder: Path) -> dict[str, Any]:
    saves = settings.num_steps_between_saves
    saving = {"save_strategy": "no"} if saves is None else {"save_strategy": "steps", "save_steps": saves}
    return {
        "output_dir": str(folder),
        "model_init_kwargs": _loading(model),
        "max_steps": -1 if settings.num_steps is None else settings.num_steps,
        "num_train_epochs": settings.num_epochs,
        "per_device_train_batch_size": settings.per_device_batch_size,
        "gradient_accumulation_steps": settings.num_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,
        "adam_beta2": settings.adam_beta2,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.is_bf16,
        "fp16": False,
        _checkpointing_name(): settings.has_activation_checkpointing,
        "use_cpu": settings.is_on_cpu,
        "report_to": "none",
        **saving,
        "save_total_limit": 1,
        "logging_strategy": "no",
        "disable_tqdm": True,
        "seed": settings.seed,
        "data_seed": settings.seed,
    }


def _train(trainer: Any, folder: Path, progress: StepProgress | None) -> Any:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    if progress is not None:
        trainer.add_callback(_progress_callback(progress))
    checkpoint = last_checkpoint(folder)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return trainer


def _progress_callback(progress: StepProgress) -> Any:
    from transformers import TrainerCallback

    class Teller(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress(state.global_step, state.max_steps)

    return Teller()
