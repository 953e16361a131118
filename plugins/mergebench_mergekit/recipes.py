"""Recipes of mergekit (arXiv:2403.13257), run by mergekit itself: two ready ones, and any YAML file."""

from mergebench_core import hookimpl

from .bridge import MergekitRecipe
from .recipe import read_recipe

SUFFIXES = (".yaml", ".yml")
TASK_ARITHMETIC = """
mergebench:
  title: Task Arithmetic (mergekit)
  paper_url: https://arxiv.org/abs/2212.04089
  variant_of: task_arithmetic
  formula: scaling_coefficient * sum of task vectors, over every tensor
  fidelity: >-
    mergekit itself runs, in fp32. Checked against the formula on tied and untied models. Where it differs from
    task_arithmetic here: embeddings, head and norms are merged too.
  search_space:
    scaling_coefficient: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]
merge_method: task_arithmetic
base_model: base
models:
  - model: specialists
    parameters: {weight: $scaling_coefficient}
"""
TIES = """
mergebench:
  title: TIES (mergekit)
  paper_url: https://arxiv.org/abs/2306.01708
  variant_of: ties
  formula: scaling_coefficient * mean of the trimmed entries that have the elected sign, trimmed tensor by tensor
  fidelity: >-
    mergekit itself runs, in fp32. Checked against a dense reading of its rules. Where it differs from the paper's
    TIES: each tensor keeps its own largest int(density * size) entries, at least one, instead of one threshold for
    the whole task vector; entries of equal size are kept by sort order; a zero sum elects +; embeddings, head and
    norms are trimmed and merged too.
  search_space:
    density: [0.2, 0.5, 0.9]
    scaling_coefficient: [0.5, 1.0, 1.5]
merge_method: ties
base_model: base
models:
  - model: specialists
    parameters: {weight: 1.0, density: $density}
parameters: {normalize: true, lambda: $scaling_coefficient}
"""


@hookimpl
def mergebench_register_methods(register):
    register(MergekitRecipe(read_recipe(TASK_ARITHMETIC, "task_arithmetic")))
    register(MergekitRecipe(read_recipe(TIES, "ties")))


@hookimpl
def mergebench_methods_of_file(path, register):
    if path.suffix in SUFFIXES:
        register(MergekitRecipe(read_recipe(path.read_text(encoding="utf-8"), path.stem)))
