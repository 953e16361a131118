"""Recipes: what they may say, and what mergekit is given. None of it needs mergekit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from mergebench_mergekit import bridge
from mergebench_mergekit.bridge import MergekitRecipe
from mergebench_mergekit.recipe import RANDOM_METHODS, method_name, read_recipe

from mergebench_core.errors import PluginError
from mergebench_core.plugins import load_methods, source_sha256
from mergebench_core.worker.catalog import find_method, load_catalog

RECIPE = """
mergebench:
  title: Mine
  search_space: {density: [0.2, 0.5], strength: [1, 2.0]}
merge_method: dare_ties
base_model: base
models:
  - model: specialists
    parameters: {weight: 0.5, density: $density}
  - model: math
    parameters: {weight: [0, $strength]}
parameters: {lambda: $strength}
tokenizer_source: base
"""
PATHS = {"base": Path("/m/b@1"), "coding": Path("/m/c+d"), "math": Path("/m/math")}


def test_document_that_mergekit_is_given():
    recipe = read_recipe(RECIPE, "mine")
    assert recipe.document(PATHS, {"density": 0.2, "strength": 2.0}) == {
        "merge_method": "dare_ties",
        "base_model": {"model": {"path": "/m/b@1"}},
        "models": [
            {"model": {"model": {"path": "/m/c+d"}}, "parameters": {"weight": 0.5, "density": 0.2}},
            {"model": {"model": {"path": "/m/math"}}, "parameters": {"weight": 0.5, "density": 0.2}},
            {"model": {"model": {"path": "/m/math"}}, "parameters": {"weight": [0, 2.0]}},
        ],
        "parameters": {"lambda": 2.0},
        "tokenizer_source": "base",
        "dtype": "float32",
    }
    again = recipe.document(PATHS, {"density": 0.5, "strength": 1})
    assert again["parameters"] == {"lambda": 1}
    assert recipe.body["base_model"] == "base"


def test_what_a_method_says_of_itself():
    method = MergekitRecipe(read_recipe(RECIPE, "My-Recipe"))
    assert (method.info.name, method.info.title) == ("mergekit_my_recipe", "Mine")
    assert (method.info.depth, method.info.determinism, method.info.base_roles) == (
        "model",
        "platform",
        frozenset(),
    )
    assert method.info.is_stochastic
    assert method.info.needs == {"validation"}
    assert {name: found.default for name, found in method.parameters.items()} == {"density": 0.2, "strength": 1.0}
    assert method.parameters["density"].problem(1.5) == "give a number above 0 and up to 1"


def test_fixed_recipe_needs_nothing():
    text = "merge_method: linear\nmodels: [{model: math, parameters: {weight: 1}}]\ndtype: bfloat16"
    method = MergekitRecipe(read_recipe(text, "fixed"))
    assert (method.info.needs, method.info.is_stochastic, method.parameters) == (frozenset(), False, {})
    assert method.info.title == "fixed (mergekit)"
    assert method.recipe.document(PATHS, {})["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("given", "name"),
    [("ties", "mergekit_ties"), ("mergekit_ties", "mergekit_ties"), ("Über 2.v1", "mergekit_ber_2_v1")],
)
def test_names_have_a_prefix(given, name):
    assert method_name(given) == name


MISTAKES = {
    "no mapping": ("[1, 2]", "a recipe is a mapping"),
    "broken yaml": ("{a: [", "no YAML: "),
    "no method": ("models: [{model: math}]", "a recipe says `merge_method: <name>`"),
    "nothing to merge": ("merge_method: linear", "either `models` or `slices`"),
    "both": ("merge_method: linear\nmodels: []\nslices: []", "either `models` or `slices`"),
    "hub id": (
        "merge_method: linear\nmodels: [{model: org/name}]",
        "model is 'org/name'; write base, specialists",
    ),
    "path": ("merge_method: linear\nmodels: [{model: /tmp/model}]", "model is '/tmp/model'; write base"),
    "lora": ("merge_method: linear\nmodels: [{model: math+lora}]", r"model is 'math\+lora'; write base"),
    "mapping as model": ("merge_method: linear\nmodels: [{model: {model: math}}]", "model is {'model': 'math'}"),
    "base by path": ("merge_method: x\nbase_model: ./b\nmodels: []", "base_model is './b'; write base"),
    "several bases": ("merge_method: x\nbase_model: specialists\nmodels: []", "stands for several"),
    "source by path": ("merge_method: x\nslices: [{sources: [{model: a/b}]}]", "model is 'a/b'"),
    "no model": ("merge_method: x\nmodels: [{parameters: {}}]", "an entry of `models` does not say `model`"),
    "models no list": ("merge_method: x\nmodels: {model: math}", "`models` must be a list of mappings"),
    "unknown key": ("merge_method: x\nmodels: []\nchat_template: auto", "a recipe takes no key 'chat_template'"),
    "modules": ("merge_method: x\nmodels: []\nmodules: {}", "a recipe takes no key 'modules'"),
    "union": ("merge_method: x\nmodels: []\ntokenizer_source: union", "the tokenizer stays the base's"),
    "tokens": ("merge_method: x\nmodels: []\ntokenizer: {source: base, tokens: {}}", "the tokenizer stays"),
    "own key": ("merge_method: x\nmodels: []\nmergebench: {name: x}", "mergebench takes no key 'name'"),
    "own part": ("merge_method: x\nmodels: []\nmergebench: 3", "`mergebench` must be a mapping"),
    "own text": ("merge_method: x\nmodels: []\nmergebench: {version: 2}", "mergebench.version must be a text"),
    "own role": ("merge_method: x\nmodels: []\nmergebench: {base_roles: [heads]}", "MethodInfo.base_roles has"),
    "own roles": ("merge_method: x\nmodels: []\nmergebench: {base_roles: head}", "base_roles must be a list"),
    "space": ("merge_method: x\nmodels: []\nmergebench: {search_space: {a: 1}}", "each name a list of values"),
    "empty": ("merge_method: x\nmodels: []\nmergebench: {search_space: {a: []}}", "gives no value for a"),
    "unused": ("merge_method: x\nmodels: []\nmergebench: {search_space: {a: [1]}}", r"nowhere says \$a"),
    "unnamed": ("merge_method: x\nmodels: []\nparameters: {t: $a}", r"uses \$a, which mergebench.search_space"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_one_line(case):
    text, message = MISTAKES[case]
    with pytest.raises(PluginError, match=message) as error:
        read_recipe(text, "mine")
    assert "\n" not in str(error.value)


def test_mistake_names_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("merge_method: linear")
    with pytest.raises(PluginError) as error:
        load_catalog(path)
    assert str(error.value) == f"plugin 'mine.yaml' ({path}): a recipe has either `models` or `slices`"


def test_unknown_domain_and_layers():
    recipe = read_recipe("merge_method: linear\nmodels: [{model: maths}]", "x")
    with pytest.raises(PluginError, match="names model 'maths'; there are: base, specialists, coding, math"):
        recipe.check_domains(["coding", "math"])
    source = "{sources: [{model: math, layer_range: [0, 2]}]}"
    recipe = read_recipe(f"merge_method: passthrough\nslices: [{source}, {source}]", "x")
    recipe.check_layers(4)
    with pytest.raises(PluginError, match="slices stack 4 layers, the base has 3"):
        recipe.check_layers(3)
    with pytest.raises(PluginError, match="every source of a slice needs `layer_range"):
        read_recipe("merge_method: x\nslices: [{sources: [{model: math}]}]", "x").check_layers(3)


def test_missing_mergekit_is_said_before_any_work(monkeypatch):
    monkeypatch.setattr(bridge, "find_spec", lambda name: None)
    with pytest.raises(PluginError) as error:
        MergekitRecipe(read_recipe(RECIPE, "mine")).prepare(SimpleNamespace(), {})
    assert str(error.value) == (
        "method 'mergekit_mine' needs mergekit; install it with: pip install 'mergebench[mergekit]'"
    )


def test_catalog_lists_a_recipe_and_its_digest_covers_file_and_bridge(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    found = find_method(load_catalog(path), "mergekit_mine")
    assert [source.name for source in found.sources] == ["mine.yaml", "mergekit"]
    assert (found.description.plugin, found.source.path) == ("mine.yaml", path)
    assert found.source_sha256 not in {source_sha256(source) for source in found.sources}
    assert set(load_methods(found.sources)) == {"mergekit_mine", "mergekit_ties", "mergekit_task_arithmetic"}
    path.write_text(RECIPE.replace("Mine", "Thine"))
    assert find_method(load_catalog(path), "mergekit_mine").source_sha256 != found.source_sha256


def test_recipe_cannot_take_a_bundled_name(tmp_path):
    path = tmp_path / "ties.yml"
    path.write_text(RECIPE)
    with pytest.raises(PluginError, match="registers method 'mergekit_ties', which plugin 'mergekit'"):
        load_catalog(path)


def test_random_methods_are_those_that_mergekit_says():
    from mergekit_samples import require_mergekit

    require_mergekit()
    import subprocess
    import sys

    code = (
        "from mergekit.merge_methods.registry import registered_methods as r\n"
        "for m in r():\n"
        "    kind = getattr(m, 'sparsification_method', None)\n"
        "    print(m.spec.name) if kind in ('random', 'della_magprune') else None"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == RANDOM_METHODS
