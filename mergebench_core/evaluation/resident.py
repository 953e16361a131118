"""The model that stays in memory while configurations come and go: weights are replaced in place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.errors import CheckpointError
from mergebench_core.evaluation.libraries import settle_libraries

if TYPE_CHECKING:
    import torch


class ResidentModel:
    """A transformers model and its tokenizer; a `Sink` for merged weights."""

    def __init__(self, path: Path) -> None:
        """Load the base model in folder `path`, in its stored dtype.

        Raises:
            CheckpointError: transformers cannot load it.
        """
        settle_libraries()
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            # eager: Gemma-2 soft-caps its attention logits, which other implementations leave out
            model: Any = AutoModelForCausalLM.from_pretrained(
                path, dtype="auto", attn_implementation="eager", local_files_only=True
            )
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, padding_side="left", local_files_only=True)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{path}: cannot be loaded as a causal language model ({reason})") from None
        self.model: Any = model.eval()
        self._tensors: dict[str, torch.Tensor] = model.state_dict()

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Replace flat elements from `offset` on of one tensor."""
        import torch

        with torch.no_grad():
            self._tensors[name].view(-1)[offset : offset + values.numel()].copy_(values)

    def load(self, checkpoint: Checkpoint) -> None:
        """Replace all weights by those of a checkpoint with the same names, shapes and dtypes."""
        for entry in checkpoint.entries.values():
            self.copy(checkpoint, entry)

    def copy(self, checkpoint: Checkpoint, entry: TensorEntry) -> None:
        """Replace one tensor by that of a checkpoint.

        Raises:
            CheckpointError: the model has no such tensor.
        """
        if entry.name not in self._tensors:
            raise CheckpointError(
                f"{checkpoint.path}: tensor '{entry.name}' is unknown to the model's architecture"
            )
        for piece in pieces(entry):
            self.write(entry.name, piece.offset, checkpoint.read(entry.name, piece.offset, piece.numel))
