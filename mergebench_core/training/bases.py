"""The model that a training starts from: a folder, a Hub id, or a base of the paper by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import CheckpointError, InputError
from mergebench_core.hub import Progress, fetch, split_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARIES = ("tokenizer.json", "*.model", "vocab*", "*.tiktoken")
"""Files of which a tokenizer has one; without any, transformers makes some from nothing."""


@dataclass(frozen=True, kw_only=True)
class StartingModel:
    """Where training starts."""

    given: str
    """As the user gave it."""
    repo: str | None
    """Repository on the Hub; None for a folder."""
    revision: str | None = None
    folder: Path | None = None
    size_b: float | None = None
    """Billions of parameters; None until the files are here."""


FindBase = Callable[[str], StartingModel]
"""Returns a base of the paper by name, or raises InputError."""


def find_start(given: str, find_base: FindBase) -> StartingModel:
    """Return what `given` names: a folder that exists, else `owner/name[@revision]`, else a base of the paper.

    Raises:
        InputError: nothing of the kind.
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        return StartingModel(given=given, repo=None, folder=folder, size_b=size_b(folder))
    named = split_id(given)
    if named is not None:
        return StartingModel(given=given, repo=named[0], revision=named[1])
    return find_base(given)


def size_b(folder: Path) -> float:
    """Return the billions of parameters of the checkpoint in a folder.

    Raises:
        CheckpointError: no safetensors there, or malformed ones.
    """
    return sum(prod(entry.shape) for entry in Checkpoint(folder).entries.values()) / 1e9


def fetch_start(model: StartingModel, progress: Progress) -> tuple[Path, str | None]:
    """Return the folder of the model's files, fetched if need be, and their commit (None: a folder of the user's).

    Raises:
        InputError: no such model, no right to it, no network.
    """
    if model.folder is not None:
        return model.folder, None
    if model.repo is None:
        raise InputError(f"--base {model.given}: neither a folder nor a model on the Hub")
    return fetch(model.repo, model.revision, progress)


def check_configuration(folder: Path) -> None:
    """Check that transformers knows which model is in a folder.

    Raises:
        CheckpointError: it does not.
    """
    from transformers import AutoConfig

    try:
        configuration = AutoConfig.from_pretrained(folder)
    except Exception as error:  # the library raises whatever reading a damaged file leads to
        raise _unloadable(folder, "configuration", error) from None
    if not configuration.architectures:
        raise CheckpointError(f"{folder}/config.json: names no architecture; save it again with transformers")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the model in a folder.

    Raises:
        CheckpointError: there is none, it cannot be loaded, or it cannot end a text.
    """
    from transformers import AutoTokenizer

    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        raise CheckpointError(f"{folder}: has no tokenizer; save one there with transformers")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # as above
        raise _unloadable(folder, "tokenizer", error) from None
    if tokenizer.eos_token is None:
        raise CheckpointError(f"{folder}: its tokenizer has no end token; set eos_token in tokenizer_config.json")
    return tokenizer


def _unloadable(folder: Path, part: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:300]
    return CheckpointError(f"{folder}: its {part} cannot be loaded ({reason}); save it again with transformers")
