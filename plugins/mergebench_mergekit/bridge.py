"""Running a recipe through mergekit, inside the worker, so that its time and memory are metered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from mergebench_core import DENSITY, SCALING_COEFFICIENT, MergingMethod, Parameter, Prepared
from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import PluginError
from mergebench_core.hyperparameters import SearchSpace, undeclared

from .recipe import BASE, Recipe

SHARED = {"density": DENSITY, "scaling_coefficient": SCALING_COEFFICIENT}
INSTALL = "pip install 'mergebench[mergekit]'"
SHARD_BYTES = 2**29
"""mergekit holds one shard of its output in memory."""


class MergekitRecipe(MergingMethod):
    """A mergekit configuration as a merging method."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.info = recipe.info
        self.search_space = recipe.search_space
        self.hyperparameters = dict(_declared(recipe.search_space))

    def prepare(self, context, config):
        """Say what would fail later: mergekit is missing, or the recipe does not fit these models."""
        if find_spec("mergekit") is None:
            raise PluginError(f"method '{self.info.name}' needs mergekit; install it with: {INSTALL}")
        self.recipe.check_domains(context.specialists.domains)
        self.recipe.check_layers(_num_layers(context.base.path))
        return Prepared()

    def merge(self, context, config):
        """Let mergekit write the merged model into the work folder, and hand over its tensors."""
        paths = {BASE: context.base.path}
        paths |= {domain: model.path for domain, model in context.specialists.items()}
        folder = context.work_folder / "mergekit"
        try:
            run_mergekit(self.recipe.document(paths, config), folder, context.seed)
            merged = Checkpoint(folder)
            _check_names(merged, context.base)
            for name in context.merged_names:
                yield name, merged.tensor(name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def run_mergekit(document: dict[str, object], folder: Path, seed: int) -> None:
    """Run a mergekit configuration on the CPU and leave the merged checkpoint in `folder`.

    Raises:
        PluginError: mergekit refuses the configuration or fails on the models, in its own words.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    options = MergeOptions(
        copy_tokenizer=False,
        write_model_card=False,
        out_shard_size=SHARD_BYTES,
        random_seed=seed % 2**32,  # what numpy takes
        quiet=True,
    )
    try:
        run_merge(MergeConfiguration.model_validate(document), str(folder), options)
    except Exception as error:  # of any kind: mergekit has no family of errors
        text = " ".join(str(error).split()) or type(error).__name__
        raise PluginError(f"mergekit fails: {text[:500]}") from error


def _declared(space: SearchSpace) -> Iterator[tuple[str, Parameter]]:
    """Yield the hyper-parameters that mean the same in every method, with the middle value tried as default."""
    for stage in space.stages:
        for name, values in stage.parameters.items():
            if name in SHARED:
                yield name, replace(SHARED[name], default=undeclared(values).default)


def _num_layers(folder: Path) -> int:
    file = folder / "config.json"
    if not file.is_file():
        raise PluginError(f"{folder} has no config.json, from which mergekit tells the architecture")
    return int(json.loads(file.read_text(encoding="utf-8"))["num_hidden_layers"])


def _check_names(merged: Checkpoint, base: Checkpoint) -> None:
    if missing := [name for name in base.names if name not in merged.entries]:
        raise PluginError(f"mergekit wrote no '{missing[0]}', which the base has; such a recipe cannot be used")
    if extra := [name for name in merged.names if name not in base.names]:
        raise PluginError(f"mergekit wrote '{extra[0]}', which the base does not have; keep the architecture")
