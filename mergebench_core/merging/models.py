"""The models that a user names: local folders or Hub ids, checked for what is not a full model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mergebench_core import hub
from mergebench_core.checkpoints.checkpoint import INDEX, SINGLE, Checkpoint
from mergebench_core.checkpoints.dtypes import MERGEABLE
from mergebench_core.checkpoints.roles import is_buffer, role_of
from mergebench_core.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Model:
    """A base or specialist of a merge."""

    label: str
    """`base`, or `specialist 'math'`."""
    given: str
    """As the user wrote it."""
    folder: Path
    repo: str | None
    """Its repository on the Hub, None for a local folder."""
    commit: str | None

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"{self.label} ({self.given})"

    @property
    def name(self) -> str:
        """Its repository, else its folder's name."""
        return self.repo or self.folder.resolve().name

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Its weights."""
        return Checkpoint(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What `config.json` says; empty if there is none."""
        path = self.folder / "config.json"
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise CheckpointError(f"{self.where}: config.json is no JSON; fetch or save the model again") from None
        return found if isinstance(found, dict) else {}

    def has(self, *patterns: str) -> bool:
        """Return whether the folder has a file that matches one of the globs."""
        return any(next(self.folder.glob(pattern), None) for pattern in patterns)


def open_model(label: str, given: str, progress: hub.Progress) -> Model:
    """Find a model, fetching it if it is a Hub id, and check that it is a full one of floats.

    Raises:
        CheckpointError: nothing there, an adapter, a format that is not read, or quantised weights.
    """
    folder, repo, commit = Path(given).expanduser(), None, None
    if not folder.is_dir():
        if folder.exists():
            raise CheckpointError(f"{label} ({given}): is a file; give the folder that transformers loads")
        found = hub.split_id(given)
        if found is None:
            raise CheckpointError(
                f"{label} ({given}): no such folder, nor a Hub id (owner/name or owner/name@revision)"
            )
        repo = found[0]
        folder, commit = hub.fetch(*found, progress)
    model = Model(label=label, given=given, folder=folder, repo=repo, commit=commit)
    _check_kind(model)
    return model


def _check_kind(model: Model) -> None:
    if not model.has(SINGLE, INDEX):
        if model.has("adapter_config.json", "adapter_model.*"):
            raise CheckpointError(
                f"{model.where}: a LoRA adapter, not a full model; load it with peft's AutoPeftModelForCausalLM, "
                "call merge_and_unload(), save_pretrained() the result, and give that folder"
            )
        if model.has("*.bin", "*.pt", "*.pth", "*.ckpt"):
            raise CheckpointError(
                f"{model.where}: only safetensors are read (pickles can run code); load it with transformers, "
                "save_pretrained() it into a new folder, and give that folder"
            )
        raise CheckpointError(f"{model.where}: neither {SINGLE} nor {INDEX} there; give a model's own folder")
    if quantisation := model.config.get("quantization_config"):
        method = quantisation.get("quant_method", "unknown") if isinstance(quantisation, dict) else "unknown"
        raise _quantised(model, f"config.json says {method}")
    for entry in model.checkpoint.entries.values():
        is_weight = role_of(entry.name, entry.shape) in ("linear", "embedding", "head") and len(entry.shape) == 2
        if is_weight and not is_buffer(entry.name, entry.shape) and entry.dtype not in (*MERGEABLE, "F64"):
            raise _quantised(model, f"tensor '{entry.name}' is {entry.dtype}")


def _quantised(model: Model, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{model.where}: quantised ({reason}); merge the full-precision models and quantise the result"
    )
