"""One training from its request to its folder: data, checkpoints, export, and what was done."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.errors import InputError, RunError
from mergebench_core.hub import Progress
from mergebench_core.training.answers import answer_checker, answer_reward
from mergebench_core.training.bases import fetch_start, size_b
from mergebench_core.training.datasets import datasets_for
from mergebench_core.training.devices import Devices, find_devices
from mergebench_core.training.document import training_document
from mergebench_core.training.export import export
from mergebench_core.training.loading import dataset_sha256, load_training_set, mix
from mergebench_core.training.plan import (
    CHECKPOINTS,
    PLAN,
    RESULT,
    TrainingRequest,
    check_folder,
    check_same,
    read_document,
    write_document,
)
from mergebench_core.training.settings import (
    GRPORecipe,
    GRPOSettings,
    Recipe,
    SFTSettings,
    accumulation_steps,
)
from mergebench_core.training.trainers import fine_tune, last_checkpoint, reinforce

if TYPE_CHECKING:
    from datasets import Dataset

SECONDS_BETWEEN_LINES = 2.0


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A finished training."""

    folder: Path
    document: dict[str, Any]
    """Content of `training.json`; empty in processes other than the main one."""
    is_new: bool


def train(request: TrainingRequest, progress: Progress) -> TrainingResult:
    """Train a specialist, or the multi-task model, into `request.out`; every process of a launch calls this.

    The same request goes on from the last checkpoint, and does nothing where it is finished.

    Raises:
        InputError: packages lack, the folder holds something else, or base or data cannot be had.
        RunError: memory ran out, or training diverged.
    """
    _check_packages()
    _quieten()
    devices = find_devices()
    tell: Progress = progress if devices.is_main else _silent
    check_folder(request.out)
    finished = _finished(request)
    if finished is not None:
        document = finished if devices.is_main else {}
        if devices.is_main:
            _tidy(request.out)
        return TrainingResult(folder=request.out, document=document, is_new=False)
    is_same = answer_checker() if request.method == "grpo" else None
    base, commit = fetch_start(request.base, tell)
    size = request.base.size_b or size_b(base)
    settings = trainer_settings(request, request.recipe(size), devices)
    parts = [load_training_set(source, tell) for source in datasets_for(request.domain, request.method)]
    data = mix(parts, request.seed)
    plan = {**request.identity(size), "base_commit": commit, "dataset_sha256": dataset_sha256(data)}
    _begin(request.out, plan, devices)
    start = request.sft or base
    trainer = _run(start, data, settings, request, is_same, tell)
    export(trainer, start, request.out)
    document = {}
    if devices.is_main:
        document = training_document(request.out, parts, settings, devices, trainer.state.global_step)
        write_document(request.out / RESULT, document)
        _tidy(request.out)
    return TrainingResult(folder=request.out, document=document, is_new=True)


def trainer_settings(
    request: TrainingRequest, recipe: Recipe | GRPORecipe, devices: Devices
) -> SFTSettings | GRPOSettings:
    """Return the settings that realise a recipe on these devices.

    Raises:
        InputError: the global batch cannot be divided among them.
    """
    shared: dict[str, Any] = {
        "learning_rate": recipe.learning_rate,
        "num_epochs": recipe.num_epochs,
        "num_steps": request.num_steps,
        "per_device_batch_size": request.per_device_batch_size,
        "num_accumulation_steps": accumulation_steps(
            recipe.global_batch_size, request.per_device_batch_size, devices.num_processes
        ),
        "warmup": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "is_bf16": devices.has_bf16,
        "has_activation_checkpointing": not devices.is_fsdp,
        "is_on_cpu": devices.is_cpu,
        "num_steps_between_saves": request.num_steps_between_saves,
        "seed": request.seed,
    }
    if isinstance(recipe, Recipe):
        return SFTSettings(**shared, max_length=recipe.max_length)
    return GRPOSettings(
        **shared,
        num_generations=recipe.num_generations,
        max_completion_length=recipe.max_completion_length,
        temperature=recipe.temperature,
        kl_coefficient=recipe.kl_coefficient,
    )


def _silent(_: str) -> None:
    """Processes other than the main one tell nothing."""


def _quieten() -> None:
    """Leave telling to our own lines."""
    from datasets import disable_progress_bars

    disable_progress_bars()


def _check_packages() -> None:
    lacking = [name for name in ("torch", "transformers", "datasets", "accelerate", "trl") if not find_spec(name)]
    if lacking:
        raise InputError(f"train needs {', '.join(lacking)}; install with pip install 'mergebench[run,train]'")


def _finished(request: TrainingRequest) -> dict[str, Any] | None:
    """Return the document of the finished training in the folder, which must be the one that is asked for."""
    found = read_document(request.out / RESULT)
    if found is None:
        return None
    check_same(found, request.identity(request.base.size_b or size_b(request.out)), request.out)
    return found


def _tidy(folder: Path) -> None:
    """Remove what a finished training needs no longer."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    (folder / PLAN).unlink(missing_ok=True)


def _begin(folder: Path, plan: dict[str, Any], devices: Devices) -> None:
    check_same(read_document(folder / PLAN), plan, folder)
    if devices.is_main:
        write_document(folder / PLAN, plan)


def _run(
    start: Path,
    data: Dataset,
    settings: SFTSettings | GRPOSettings,
    request: TrainingRequest,
    is_same: Callable[[str, str], bool] | None,
    progress: Progress,
) -> Any:
    import torch
    from transformers import AutoTokenizer

    checkpoints = request.out / CHECKPOINTS
    found = last_checkpoint(checkpoints)
    progress(f"going on from {found.name}" if found else f"preparing {len(data):,} examples")
    step = _step_lines(f"{request.base.given} {request.domain}", progress)
    tokenizer = AutoTokenizer.from_pretrained(start)
    try:
        if isinstance(settings, SFTSettings):
            return fine_tune(str(start), tokenizer, data, settings, checkpoints, step)
        assert is_same is not None
        data = data.rename_column("completion", "solution")
        return reinforce(str(start), tokenizer, data, answer_reward(is_same), settings, checkpoints, step)
    except torch.OutOfMemoryError:
        raise RunError(
            f"out of GPU memory at {settings.per_device_batch_size} per device; lower --per-device-batch, "
            "or shard the model with an accelerate configuration for FSDP or DeepSpeed on more GPUs"
        ) from None


def _step_lines(label: str, progress: Progress) -> Callable[[int, int], None]:
    told_s = float("-inf")

    def tell(step: int, num_steps: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s >= SECONDS_BETWEEN_LINES or step == num_steps:
            told_s = time.monotonic()
            progress(f"{label}: step {step} of {num_steps}")

    return tell
