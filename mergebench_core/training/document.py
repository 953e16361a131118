"""Content of `training.json`: what was trained, on which data, with what, and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.environment import package_versions
from mergebench_core.training.devices import Devices
from mergebench_core.training.loading import LoadedDataset
from mergebench_core.training.plan import DATASET_REVISIONS, PLAN, read_document
from mergebench_core.training.settings import TrainerSettings
from mergebench_core.training.trainers import left_out, num_examples_trained

PACKAGES = (
    "mergebench", "torch", "transformers", "trl", "accelerate", "datasets", "tokenizers", "safetensors",
    "math-verify", "deepspeed",
)  # fmt: skip


def training_document(
    folder: Path,
    parts: Sequence[LoadedDataset],
    settings: TrainerSettings,
    devices: Devices,
    trainer: Any,
) -> dict[str, Any]:
    """Return `training.json`: the plan, the data as it came, the machine, and the digest of the weights."""
    plan = read_document(folder / PLAN) or {}
    plan.pop(DATASET_REVISIONS, None)  # each data set has its own below
    return {
        **plan,
        "datasets": [part.to_dict() for part in parts],
        "num_examples": sum(len(part.examples) for part in parts),
        "num_examples_trained": num_examples_trained(trainer),
        "num_steps_done": trainer.state.global_step,
        "attention": trainer.model.config._attn_implementation,
        "devices": {
            "num_processes": devices.num_processes,
            "per_device_batch_size": settings.per_device_batch_size,
            "num_accumulation_steps": settings.num_accumulation_steps,
            "is_cpu": devices.is_cpu,
            "has_bf16": devices.has_bf16,
            "is_fsdp": devices.is_fsdp,
        },
        "packages": package_versions(PACKAGES),
        "weights_sha256": weights_sha256(Checkpoint(folder)),
    }


def notes(document: Mapping[str, Any]) -> list[str]:
    """Return where the data of a finished training are not what the paper or its recipe would have."""
    found = [part["difference"] for part in document["datasets"]]
    num_examples, max_length = document["num_examples"], document["recipe"].get("max_length", 0)
    found.append(left_out(num_examples, document.get("num_examples_trained", num_examples), max_length))
    return [note for note in found if note]
