"""What an engine offers: a place for merged weights, and lm-eval's view of the model that has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.errors import InputError
from mergebench_core.tracks.track import EvaluationSettings
from mergebench_core.tracks.world import EngineName

if TYPE_CHECKING:
    import torch


ENGINES: tuple[EngineName, ...] = ("hf", "vllm")
TEMPLATE_VALUES = {"date_string": "26 Jul 2024"}
"""What chat templates are given: those of Llama 3 write a date into every prompt, else that of the day."""


class Engine(Protocol):
    """A model in memory; a `Sink` for merged weights."""

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Replace flat elements from `offset` on of one tensor."""

    def copy(self, checkpoint: Checkpoint, entry: TensorEntry) -> None:
        """Replace one tensor by that of a checkpoint.

        Raises:
            CheckpointError: the model has no such tensor.
        """

    def load(self, checkpoint: Checkpoint) -> None:
        """Replace all weights by those of a checkpoint with the same names and shapes."""

    def language_model(self) -> Any:
        """Return lm-eval's `LM` on the weights written so far."""

    def set_batch_size(self, batch_size: int) -> None:
        """Let the language model score that many sequences at a time, where the engine leaves the choice to us."""

    def park(self) -> None:
        """Free the accelerator's memory; the next use takes it again."""

    def close(self) -> None:
        """Free everything; the engine is not used again."""


def check_engine(name: EngineName) -> None:
    """Check, before anything is fetched for it, that an engine can run here.

    Raises:
        InputError: it is not installed, or needs a GPU that is not there.
    """
    if name == "vllm":
        from mergebench_core.evaluation.engines.vllm import require_vllm

        require_vllm()


def open_engine(name: EngineName, path: Path, settings: EvaluationSettings, work_folder: Path) -> Engine:
    """Load the model in folder `path` into an engine.

    Args:
        name: which engine.
        path: a folder that transformers loads.
        settings: how the track scores.
        work_folder: where the engine may keep files while it lives.

    Raises:
        CheckpointError: the model cannot be loaded.
        InputError: the engine is not installed, or needs a GPU that is not there.
    """
    if name == "hf":
        from mergebench_core.evaluation.engines.hf import HfEngine

        return HfEngine(path, settings)
    if name == "vllm":
        from mergebench_core.evaluation.engines.vllm import VllmEngine

        return VllmEngine(path, settings, work_folder)
    raise InputError(f"unknown engine '{name}': known: {', '.join(ENGINES)}")
