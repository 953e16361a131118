"""What is to be trained, and what its folder says about an earlier call of the same command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mergebench_core.errors import InputError, unknown_name
from mergebench_core.home import write_atomic
from mergebench_core.training.bases import StartingModel, size_b
from mergebench_core.training.datasets import DOMAINS
from mergebench_core.training.settings import GRPO, MULTITASK, GRPORecipe, Recipe, check_grpo, sft_recipe

SCHEMA_VERSION = 1
RESULT = "training.json"
"""Written last: a folder with it is finished."""
PLAN = "training.plan.json"
"""Written before the first step: what the checkpoints beside it are of, and the commits to go on with."""
DATASET_REVISIONS = "dataset_revisions"
"""Key of the plan: the commit of each data set's repository, where known."""
CHECKPOINTS = "checkpoints"
METHODS = ("sft", "grpo")


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """One training, as asked for."""

    base: StartingModel
    domain: str
    """One of the paper's, or `all` for the multi-task model."""
    method: str = "sft"
    """One of `METHODS`."""
    out: Path
    seed: int = 0
    sft: Path | None = None
    """Finished SFT training that GRPO goes on from."""
    per_device_batch_size: int = 1
    num_steps_between_saves: int = 200
    num_steps: int | None = None
    """Stop after so many steps, with the schedule ending there; None: the paper's epochs."""

    def __post_init__(self) -> None:
        if self.domain not in (*DOMAINS, MULTITASK):
            raise unknown_name("domain", self.domain, (*DOMAINS, MULTITASK), "Give one with --domain.")
        if self.method not in METHODS:
            raise unknown_name("method of training", self.method, METHODS, "Give one with --method.")
        for option, value in (
            ("--per-device-batch", self.per_device_batch_size),
            ("--save-steps", self.num_steps_between_saves),
            ("--steps", self.num_steps),
        ):
            if value is not None and value < 1:
                raise InputError(f"{option} {value}: must be at least 1")
        if self.method == "grpo":
            self._check_grpo()
        elif self.sft is not None:
            raise InputError(f"--sft {self.sft}: goes with --method grpo only; leave it out")

    def _check_grpo(self) -> None:
        check_grpo(self.domain, self.base.size_b or float("inf"))
        if self.sft is None:
            raise InputError("--method grpo goes on from the SFT specialist; give its folder with --sft")
        found = read_document(self.sft / RESULT)
        if found is None:
            raise InputError(
                f"--sft {self.sft}: no finished training there; run the same command with --method sft"
            )
        wanted = {"method": "sft", "domain": self.domain, "base": self.base_name}
        wrong = [name for name, value in wanted.items() if found.get(name) != value]
        if wrong:
            raise InputError(f"--sft {self.sft}: {wrong[0]} is {found.get(wrong[0])!r}, not {wanted[wrong[0]]!r}")
        check_grpo(self.domain, self.base.size_b or size_b(self.sft))

    @property
    def base_name(self) -> str:
        """Repository of the base, or where its folder is."""
        return self.base.repo or str((self.base.folder or Path(self.base.given)).resolve())

    def recipe(self, size: float) -> Recipe | GRPORecipe:
        """Return the recipe for a base of `size` billion parameters."""
        return GRPO if self.method == "grpo" else sft_recipe(size)

    def identity(self, size: float | None = None) -> dict[str, Any]:
        """Return what makes this training another one than the next; devices and processes do not.

        The recipe is among it only if the base's size is known.
        """
        recipe = {} if size is None else {"recipe": asdict(self.recipe(size))}
        started = {} if self.sft is None else {"sft_weights_sha256": _sft_digest(self.sft)}
        return {
            "schema_version": SCHEMA_VERSION,
            "base": self.base_name,
            "base_revision": self.base.revision,
            "domain": self.domain,
            "method": self.method,
            "seed": self.seed,
            "num_steps": self.num_steps,
            **recipe,
            **started,
        }


def _sft_digest(folder: Path) -> Any:
    return (read_document(folder / RESULT) or {}).get("weights_sha256")


def read_document(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is no file.

    Raises:
        InputError: it cannot be read or is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); choose another folder or remove the file") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: no JSON object; choose another folder or remove the file")
    return found


def check_same(found: Mapping[str, Any] | None, wanted: Mapping[str, Any], folder: Path) -> None:
    """Check that what a folder holds is the training that is wanted (None: it holds none).

    A base that is wanted at the commit which the training began with is the same, however it was asked for then.

    Raises:
        InputError: it is another one; the message names the first difference.
    """
    if found is None:
        return
    for name, value in wanted.items():
        is_commit = name == "base_revision" and value is not None and value == found.get("base_commit")
        if found.get(name) != value and not is_commit:
            raise InputError(
                f"--out {folder}: holds another training (its {name} is {found.get(name)!r}, not {value!r}); "
                "give another folder"
            )


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document whole or not at all."""
    write_atomic(path, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
