"""The engine on transformers: a model in this process, on CPU or GPU, whose weights are replaced in place."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.errors import CheckpointError, InputError
from mergebench_core.evaluation.engines.engine import TEMPLATE_VALUES
from mergebench_core.evaluation.engines.lengths import refuse_long
from mergebench_core.evaluation.libraries import settle_libraries
from mergebench_core.tracks.track import EvaluationSettings

if TYPE_CHECKING:
    import torch


class HfEngine:
    """A transformers model and its tokenizer; see `Engine`."""

    def __init__(self, path: Path, settings: EvaluationSettings) -> None:
        """Load the model in folder `path`.

        Raises:
            CheckpointError: transformers cannot load it.
        """
        settle_libraries()
        import torch

        self._settings = settings
        is_on_gpu = settings.device == "auto" and torch.cuda.is_available()
        self._device = torch.device("cuda" if is_on_gpu else "cpu")
        self.tokenizer: Any = load_tokenizer(path)
        self.model: Any = _load_model(path, settings.dtype)
        self._language_model: Any = None
        self._tensors: dict[str, torch.Tensor] = {}
        self._move_to(self._device)

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Replace flat elements from `offset` on of one tensor."""
        import torch

        with torch.no_grad():
            self._tensors[name].view(-1)[offset : offset + values.numel()].copy_(values)

    def load(self, checkpoint: Checkpoint) -> None:
        """Replace all weights by those of a checkpoint with the same names and shapes."""
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

    def language_model(self) -> Any:
        """Return lm-eval's wrapper of this model, on its device."""
        self._move_to(self._device)
        if self._language_model is None:
            from lm_eval.models.huggingface import HFLM

            kind = HFLM if self._settings.truncates else refuse_long(HFLM)
            # its `truncation` stays off: that cuts the end of a prompt, to the tokenizer's length
            self._language_model = kind(
                pretrained=self.model,
                tokenizer=self.tokenizer,
                batch_size=self._settings.batch_size,
                max_length=self._settings.max_length,
                add_bos_token=True,
                chat_template_args=dict(TEMPLATE_VALUES),
            )
        return self._language_model

    def set_batch_size(self, batch_size: int) -> None:
        """Let the language model score that many sequences at a time."""
        self.language_model().batch_size_per_gpu = batch_size

    def park(self) -> None:
        """Move the model to main memory, so that a method can have the GPU."""
        import torch

        self._move_to(torch.device("cpu"))

    def close(self) -> None:
        """Let go of the model."""
        import torch

        self.model = self._language_model = None
        self._tensors = {}
        if self._device.type == "cuda":
            gc.collect()  # lm-eval's wrapper and its parts refer to one another
            torch.cuda.empty_cache()

    def _move_to(self, device: torch.device) -> None:
        import torch

        if self._tensors and next(iter(self._tensors.values())).device.type == device.type:
            return
        try:
            self.model.to(device)
        except torch.OutOfMemoryError:
            self.model.to("cpu")
            raise InputError(
                "the model does not fit in the GPU's memory; end what else uses the GPU, or use a larger one"
            ) from None
        finally:
            self._tensors = self.model.state_dict()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()


def load_tokenizer(path: Path) -> Any:
    """Return the tokenizer of the model in folder `path`; all engines use it, so that all see the same tokens.

    Raises:
        CheckpointError: transformers cannot load it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, padding_side="left", local_files_only=True)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _load_model(path: Path, dtype: str) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        # eager: Gemma-2 soft-caps its attention logits, which other implementations leave out; sdpa is slower at
        # generating from padded prompts
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation="eager", local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    model, found = loaded
    missing = sorted(found["missing_keys"])
    if missing:  # transformers would go on with random values
        raise CheckpointError(f"{path}: has no tensor '{missing[0]}', which its architecture needs; save it again")
    return model.eval()


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:300]
    return CheckpointError(f"{path}: cannot be loaded as a causal language model ({reason})")
