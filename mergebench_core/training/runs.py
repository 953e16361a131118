"""One training from its request to its folder: data, checkpoints, export, and what was done."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.errors import InputError, RunError
from mergebench_core.hub import Progress
from mergebench_core.training.answers import answer_checker, answer_reward
from mergebench_core.training.bases import (
    StartingModel,
    check_configuration,
    fetch_start,
    load_tokenizer,
    size_b,
)
from mergebench_core.training.datasets import datasets_for
from mergebench_core.training.devices import Devices, find_devices
from mergebench_core.training.document import training_document
from mergebench_core.training.export import export
from mergebench_core.training.folder import check_folder, check_room, full_disk_in_words, lock
from mergebench_core.training.loading import LoadedDataset, dataset_sha256, load_training_set, mix
from mergebench_core.training.plan import (
    CHECKPOINTS,
    DATASET_REVISIONS,
    PLAN,
    RESULT,
    TrainingRequest,
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
from mergebench_core.training.trainers import fine_tune, last_checkpoint, reinforce, remove_unfinished

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

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
        InputError: packages lack, the folder holds something else or is in use, or base or data cannot be had.
        RunError: memory or disk ran out, or training diverged.
    """
    _check_packages()
    _quieten()
    devices = find_devices()
    tell: Progress = progress if devices.is_main else _silent
    check_folder(request.out)
    holding = lock(request.out) if devices.is_main else nullcontext()
    with holding, full_disk_in_words(request.out):
        finished = _finished(request)
        if finished is None:
            return _train(request, devices, tell)
        if devices.is_main:
            _tidy(request.out)
        return TrainingResult(folder=request.out, document=finished if devices.is_main else {}, is_new=False)


def _train(request: TrainingRequest, devices: Devices, progress: Progress) -> TrainingResult:
    is_same = answer_checker() if request.method == "grpo" else None
    begun = read_document(request.out / PLAN)
    check_same(begun, request.identity(), request.out)
    base, commit = fetch_start(_as_begun(request.base, begun), progress)
    start = request.sft or base
    check_configuration(start)
    tokenizer = load_tokenizer(start)
    num_billions = size_b(start)
    if devices.is_main:
        remove_unfinished(request.out / CHECKPOINTS)
        check_room(request.out, num_billions)
    size = request.base.size_b or num_billions
    settings = trainer_settings(request, request.recipe(size), devices)
    parts = _load_data(request, begun, progress)
    data = mix(parts, request.seed)
    plan = {**request.identity(size), "base_commit": commit, "dataset_sha256": dataset_sha256(data)}
    check_same(begun, plan, request.out)
    if begun is None and devices.is_main:
        revisions = {part.source.repo: part.revision for part in parts}
        write_document(request.out / PLAN, {**plan, DATASET_REVISIONS: revisions})
    trainer = _run(start, tokenizer, data, settings, request, is_same, progress)
    export(trainer, start, request.out)
    document = {}
    if devices.is_main:
        document = training_document(request.out, parts, settings, devices, trainer)
        write_document(request.out / RESULT, document)
        _tidy(request.out)
    return TrainingResult(folder=request.out, document=document, is_new=True)


def _as_begun(base: StartingModel, begun: Mapping[str, Any] | None) -> StartingModel:
    """Return the base at the commit that an interrupted training began with; its branch may have moved."""
    commit = (begun or {}).get("base_commit")
    return base if commit is None else replace(base, revision=commit)


def _load_data(
    request: TrainingRequest, begun: Mapping[str, Any] | None, progress: Progress
) -> list[LoadedDataset]:
    """Load the data sets, at the commits that an interrupted training began with."""
    revisions = (begun or {}).get(DATASET_REVISIONS, {})
    sources = datasets_for(request.domain, request.method)
    return [load_training_set(source, revisions.get(source.repo), progress) for source in sources]


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


def _run(
    start: Path,
    tokenizer: PreTrainedTokenizerBase,
    data: Dataset,
    settings: SFTSettings | GRPOSettings,
    request: TrainingRequest,
    is_same: Callable[[str, str], bool] | None,
    progress: Progress,
) -> Any:
    import torch

    checkpoints = request.out / CHECKPOINTS
    found = last_checkpoint(checkpoints)
    progress(f"going on from {found.name}" if found else f"preparing {len(data):,} examples")
    step = _step_lines(f"{request.base.given} {request.domain}", progress)
    try:
        if isinstance(settings, SFTSettings):
            return fine_tune(str(start), tokenizer, data, settings, checkpoints, step, progress)
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
