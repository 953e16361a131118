"""Content of `training.json`: what was trained, on which data, with what, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.environment import package_versions
from mergebench_core.training.devices import Devices
from mergebench_core.training.loading import LoadedDataset
from mergebench_core.training.plan import PLAN, read_document
from mergebench_core.training.settings import TrainerSettings

PACKAGES = (
    "mergebench", "torch", "transformers", "trl", "accelerate", "datasets", "tokenizers", "safetensors",
    "math-verify", "deepspeed",
)  # fmt: skip


def training_document(
    folder: Path,
    parts: Sequence[LoadedDataset],
    settings: TrainerSettings,
    devices: Devices,
    num_steps_done: int,
) -> dict[str, Any]:
    """Return `training.json`: the plan, the data as it came, the machine, and the digest of the weights."""
    return {
        **(read_document(folder / PLAN) or {}),
        "datasets": [part.to_dict() for part in parts],
        "num_examples": sum(len(part.examples) for part in parts),
        "num_steps_done": num_steps_done,
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
