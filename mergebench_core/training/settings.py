"""Settings of one training, and the paper's recipes as values of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mergebench_core.errors import InputError

GLOBAL_BATCH_SIZE = 128
LARGE_FROM_B = 5.0
"""Billions of parameters from which the recipe of 8B and 9B holds; below, that of 2B and 3B."""
MULTITASK = "all"


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """What both kinds of training share. AdamW, on one process or under `accelerate launch`."""

    learning_rate: float
    schedule: Literal["cosine", "linear"] = "cosine"
    num_epochs: float = 1.0
    num_steps: int | None = None
    """Optimizer steps; None: as many as the epochs need."""
    per_device_batch_size: int
    num_accumulation_steps: int = 1
    warmup: float = 0.0
    """Optimizer steps of linear warm-up; below 1 the fraction of all steps."""
    adam_beta2: float = 0.999
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    is_bf16: bool = False
    has_activation_checkpointing: bool = False
    is_on_cpu: bool = False
    num_steps_between_saves: int | None = None
    """None: no checkpoints are written and nothing can be resumed."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class SFTSettings(TrainerSettings):
    """Supervised fine-tuning: cross-entropy of completions and their end tokens."""

    max_length: int
    """Tokens of prompt and completion; the rest is cut off."""


@dataclass(frozen=True, kw_only=True)
class GRPOSettings(TrainerSettings):
    """Group relative policy optimisation; a batch is one of completions."""

    num_generations: int
    """Completions per prompt, whose rewards are compared."""
    max_completion_length: int
    temperature: float
    kl_coefficient: float
    """Weight of the distance to the model that training started from; 0: that model is not kept."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The paper's recipe for one size of models; docs/training.md says which values are the paper's."""

    max_length: int
    learning_rate: float
    num_epochs: float = 2.0
    global_batch_size: int = GLOBAL_BATCH_SIZE
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True, kw_only=True)
class GRPORecipe:
    """Reinforcement learning after SFT. The paper gives only the data and the sizes: these values are ours."""

    learning_rate: float = 1e-6
    num_epochs: float = 1.0
    global_batch_size: int = GLOBAL_BATCH_SIZE
    num_generations: int = 8
    max_completion_length: int = 2048
    temperature: float = 1.0
    kl_coefficient: float = 0.0
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


SMALL = Recipe(max_length=4096, learning_rate=1e-5)
LARGE = Recipe(max_length=3072, learning_rate=5e-5)
GRPO = GRPORecipe()


def is_large(size_b: float) -> bool:
    """Say whether a model of `size_b` billion parameters is of the paper's 8B and 9B kind."""
    return size_b >= LARGE_FROM_B


def sft_recipe(size_b: float) -> Recipe:
    """Return the paper's recipe for a model of `size_b` billion parameters."""
    return LARGE if is_large(size_b) else SMALL


def check_grpo(domain: str, size_b: float) -> None:
    """Check that the paper trains this with GRPO.

    Raises:
        InputError: another domain than math, or a model below the 8B and 9B ones.
    """
    if domain != "math":
        raise InputError(f"--method grpo: the paper uses it for math only, not for '{domain}'; use --method sft")
    if not is_large(size_b):
        raise InputError(
            f"--method grpo: the paper uses it on the 8B and 9B models only, not at {size_b:.1f}B; "
            "use --method sft"
        )


def accumulation_steps(global_batch_size: int, per_device: int, num_processes: int) -> int:
    """Return how many batches of all processes make one global batch.

    Raises:
        InputError: the global batch is no multiple of what the processes take at once.
    """
    at_once = per_device * num_processes
    if at_once < 1 or global_batch_size % at_once:
        raise InputError(
            f"a global batch of {global_batch_size} is no multiple of {per_device} per device x {num_processes} "
            "processes; change --per-device-batch or the number of processes"
        )
    return global_batch_size // at_once
