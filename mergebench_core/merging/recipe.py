"""The recipe of a merge: everything that moves its weights, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergebench_core.errors import InputError
from mergebench_core.hyperparameters import Hyperparameter, declaration, parse_value, resolve_config
from mergebench_core.jobs import ENGINE_REVISION
from mergebench_core.merging.known_digests import file_state
from mergebench_core.merging.models import Model
from mergebench_core.worker.catalog import CatalogMethod
from mergebench_core.worker.description import MethodDescription

RECIPE_NAME = "mergebench_recipe.json"
RECIPE_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is merged and how. Two merges of the same recipe give the same bytes (exact methods)."""

    method: CatalogMethod
    config: dict[str, Hyperparameter]
    seed: int
    num_threads: int
    samples_sha256: Mapping[str, str]
    models: Mapping[str, Model]
    """By label: `base`, then `specialist:<domain>`."""

    def identity(self) -> dict[str, Any]:
        """Return everything that moves the weights except the models' own."""
        description = self.method.description
        is_exact = description.determinism == "exact"
        return {
            "method": description.name,
            "method_source_sha256": self.method.source_sha256,
            "configuration": self.config,
            "seed": self.seed,
            "samples_sha256": dict(self.samples_sha256),
            "num_threads": None if is_exact else self.num_threads,
            "engine_revision": ENGINE_REVISION,
        }

    def files_key(self) -> str:
        """Return what identifies the recipe as long as no file of a model is touched; nothing is read for it."""
        files = {
            label: [file_state(path) for path in sorted(model.folder.iterdir()) if path.is_file()]
            for label, model in self.models.items()
        }
        return _key({**self.identity(), "files": files})

    def key(self, digests: Mapping[str, str]) -> str:
        """Return what identifies the recipe wherever its models lie."""
        return _key({**self.identity(), "weights_sha256": dict(digests)})


def _key(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, allow_nan=False).encode()).hexdigest()


def configuration(
    description: MethodDescription, given: Mapping[str, Hyperparameter], domains: tuple[str, ...]
) -> dict[str, Hyperparameter]:
    """Return the whole configuration: what was given, else the only value of a search space, else defaults.

    Raises:
        InputError: an unknown hyper-parameter, or a value of the wrong type or out of range.
    """
    fixed = {
        name: values[0]
        for stage in description.search_space.stages
        if len(stage.configurations()) == 1
        for name, values in stage.parameters.items()
    }
    typed = {name: _typed(description, name, value) for name, value in given.items()}
    return resolve_config(description.parameters, {**fixed, **typed}, domains, description.name)


def _typed(description: MethodDescription, name: str, value: Hyperparameter) -> Hyperparameter:
    parameter = declaration(description.parameters, name)
    if parameter is None:
        return value
    if isinstance(value, str):
        value = parse_value(value, parameter)
    is_whole = isinstance(parameter.default, float) and type(value) is int
    return float(value) if is_whole else value


def untuned(description: MethodDescription, given: Mapping[str, Hyperparameter]) -> list[str]:
    """Return the hyper-parameters that a run would choose on validation tasks and that nobody chose here."""
    stages = [stage for stage in description.search_space.stages if len(stage.configurations()) > 1]
    return [name for stage in stages for name in stage.parameters if name not in given]


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """Return the recipe that a folder was merged by, None if it has none that can be read."""
    try:
        found = json.loads((folder / RECIPE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def split_setting(text: str, option: str, example: str) -> tuple[str, str]:
    """Split `name=value` as given to an option.

    Raises:
        InputError: no equals sign, or nothing on one side.
    """
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise InputError(f"{option} {text}: write {example}")
    return name, value
