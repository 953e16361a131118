"""What this process trains on, alone or as one of those that `accelerate launch` started."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mergebench_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Devices:
    """Processes, and what each has; the environment of the launcher says so."""

    num_processes: int = 1
    is_main: bool = True
    is_cpu: bool = True
    has_bf16: bool = False
    is_fsdp: bool = False
    """Whether accelerate shards the model with FSDP, which then does the activation checkpointing as well."""


def find_devices() -> Devices:
    """Return what there is.

    Raises:
        InputError: one process sees several GPUs, which it would use with another global batch.
    """
    import torch

    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    is_cpu = not torch.cuda.is_available() or _is_set("ACCELERATE_USE_CPU")
    if not is_cpu and num_processes == 1 and torch.cuda.device_count() > 1:
        raise InputError(
            f"{torch.cuda.device_count()} GPUs and one process: start with `accelerate launch -m mergebench_core "
            "train ...`, or choose one GPU with CUDA_VISIBLE_DEVICES=0"
        )
    return Devices(
        num_processes=num_processes,
        is_main=os.environ.get("RANK", "0") == "0",
        is_cpu=is_cpu,
        has_bf16=not is_cpu and torch.cuda.is_bf16_supported(),
        is_fsdp=_is_set("ACCELERATE_USE_FSDP"),
    )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")
