"""What a recipe says: a mergekit configuration whose models are `base` and domains, and a part for mergebench."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mergebench_core import MethodInfo, grid
from mergebench_core.errors import PluginError
from mergebench_core.hyperparameters import SearchSpace

BASE, SPECIALISTS = "base", "specialists"
OWN_KEYS = ("title", "paper_url", "version", "variant_of", "formula", "fidelity", "base_roles", "search_space")
MERGEKIT_KEYS = (
    "merge_method",
    "base_model",
    "models",
    "slices",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
)
RANDOM_METHODS = frozenset({"dare_linear", "dare_ties", "della", "della_linear"})
"""mergekit's methods that draw random masks (sparsify.py: `random` and `della_magprune`)."""
PLACEHOLDER = re.compile(r"\$(\w+)")
MODEL_NAME = re.compile(r"[a-z][a-z0-9_]*")
FIDELITY = "mergekit itself runs, in fp32 unless the recipe says otherwise; embeddings, head and norms are merged."


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe."""

    info: MethodInfo
    search_space: SearchSpace
    body: Mapping[str, object]
    """The mergekit configuration, with the recipe's names of models and its placeholders."""
    model_names: tuple[str, ...] = field(default=())
    """Every name of a model that it uses: `base`, `specialists`, domains."""

    def check_domains(self, domains: Sequence[str]) -> None:
        """Check that the recipe names no domain but `domains`.

        Raises:
            PluginError: naming the first that is none.
        """
        known = (BASE, SPECIALISTS, *domains)
        for name in self.model_names:
            if name not in known:
                raise PluginError(f"the recipe names model '{name}'; there are: {', '.join(known)}")

    def check_layers(self, num_layers: int) -> None:
        """Check that slices, if there are any, add up to the base's `num_layers` blocks.

        Raises:
            PluginError: saying both numbers.
        """
        slices = self.body.get("slices")
        if not isinstance(slices, list):
            return
        stacked = sum(_num_layers(part) for part in slices)
        if stacked != num_layers:
            raise PluginError(f"the recipe's slices stack {stacked} layers, the base has {num_layers}; keep them")

    def document(self, paths: Mapping[str, Path], config: Mapping[str, object]) -> dict[str, object]:
        """Return what mergekit is given.

        Args:
            paths: the folders of `base` and of every domain, in the order that `specialists` stands for.
            config: the values of the placeholders.
        """
        filled = _filled(_expanded(dict(self.body), [name for name in paths if name != BASE]), config)
        assert isinstance(filled, dict)
        for owner, key in _places(filled):  # a mapping, for mergekit reads a revision or a LoRA out of a text
            owner[key] = {"model": {"path": str(paths[str(owner[key])])}}
        return {"dtype": "float32", **filled}


def read_recipe(text: str, name: str) -> Recipe:
    """Read a recipe.

    Args:
        text: YAML.
        name: of the file, without suffix; the method is called `mergekit_<name>`.

    Raises:
        PluginError: naming what a recipe must not say, and the remedy.
    """
    import yaml

    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PluginError(f"no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict):
        raise PluginError("a recipe is a mapping: merge_method, base_model, models, parameters, ...")
    own = body.pop("mergebench", None) or {}
    if not isinstance(own, dict):
        raise PluginError(f"`mergebench` must be a mapping with keys among {', '.join(OWN_KEYS)}")
    _check_keys(own, OWN_KEYS, "mergebench")
    _check_keys(body, MERGEKIT_KEYS, "a recipe")
    _check_body(body)
    space = _search_space(own.pop("search_space", None) or {})
    _check_placeholders(body, space)
    model_names = tuple(dict.fromkeys(str(owner[key]) for owner, key in _places(body)))
    return Recipe(info=_info(name, own, body, space), search_space=space, body=body, model_names=model_names)


def method_name(name: str) -> str:
    """Return the method's name for a recipe's: snake_case, with a prefix that tells it from other methods.

    Example:
        >>> method_name("My-Recipe.v2"), method_name("mergekit_ties")
        ('mergekit_my_recipe_v2', 'mergekit_ties')
    """
    return f"mergekit_{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_').removeprefix('mergekit_')}"


def _info(name: str, own: Mapping[str, object], body: Mapping[str, object], space: SearchSpace) -> MethodInfo:
    texts = {key: value for key, value in own.items() if key != "base_roles"}
    if wrong := [key for key, value in texts.items() if not isinstance(value, str)]:
        raise PluginError(f"mergebench.{wrong[0]} must be a text; put it in quotes")
    roles = own.get("base_roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise PluginError("mergebench.base_roles must be a list, such as [embedding, head]")
    told = {
        "title": f"{name} (mergekit)",
        "paper_url": "",
        "formula": f"what mergekit computes with merge_method {body['merge_method']}",
        "fidelity": FIDELITY,
    }
    return MethodInfo(
        name=method_name(name),
        needs=frozenset({"validation"} if space.is_tuned else ()),
        depth="model",
        determinism="platform",
        is_stochastic=body["merge_method"] in RANDOM_METHODS,
        base_roles=frozenset(roles),
        cost="mergekit reads all models and writes a copy of the merged one, in fp32, to scratch space first",
        **{**told, **texts},
    )


def _check_keys(given: Mapping[object, object], known: Sequence[str], where: str) -> None:
    if wrong := [key for key in given if key not in known]:
        raise PluginError(f"{where} takes no key '{wrong[0]}'; it takes: {', '.join(known)}")


def _check_body(body: Mapping[str, object]) -> None:
    if not isinstance(body.get("merge_method"), str):
        raise PluginError("a recipe says `merge_method: <name>`")
    if ("models" in body) == ("slices" in body):
        raise PluginError("a recipe has either `models` or `slices`")
    tokenizer = body.get("tokenizer")
    if body.get("tokenizer_source") not in (None, BASE) or tokenizer not in (None, {"source": BASE}):
        raise PluginError("the tokenizer stays the base's: write `tokenizer_source: base`, or leave it out")
    for owner, key in _places(body):
        value = owner[key]
        if not isinstance(value, str) or not MODEL_NAME.fullmatch(value):
            raise PluginError(f"{key} is {value!r}; write base, specialists, or a domain such as math")
        if value == SPECIALISTS and key != "model":
            raise PluginError(f"{key} is specialists, which stands for several; name one model")


def _places(body: Mapping[str, object]) -> Iterator[tuple[dict, str]]:
    """Yield every place that names a model: the mapping that holds it, and its key there.

    Raises:
        PluginError: models or slices are no list of mappings.
    """
    if "base_model" in body:
        yield body, "base_model"
    for model in _mappings(body, "models"):
        yield model, "model"
    for part in _mappings(body, "slices"):
        if "base_model" in part:
            yield part, "base_model"
        for source in _mappings(part, "sources"):
            yield source, "model"


def _mappings(owner: Mapping[str, object], key: str) -> list[dict]:
    parts = owner.get(key, [])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise PluginError(f"`{key}` must be a list of mappings")
    for part in parts:
        if key != "slices" and "model" not in part:
            raise PluginError(f"an entry of `{key}` does not say `model`")
    return parts


def _num_layers(part: Mapping[str, object]) -> int:
    sources = _mappings(part, "sources")
    bounds = sources[0].get("layer_range") if sources else None
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(bound, int) for bound in bounds):
        raise PluginError("every source of a slice needs `layer_range: [first, end]`")
    return bounds[1] - bounds[0]


def _search_space(values: object) -> SearchSpace:
    if not isinstance(values, dict) or not all(isinstance(given, list) for given in values.values()):
        raise PluginError("mergebench.search_space must give each name a list of values")
    return grid(**{str(name): given for name, given in values.items()})


def _check_placeholders(body: object, space: SearchSpace) -> None:
    used = set(_placeholders(body))
    if unknown := sorted(used - set(space.parameters)):
        raise PluginError(f"the recipe uses ${unknown[0]}, which mergebench.search_space does not name")
    if unused := sorted(set(space.parameters) - used):
        raise PluginError(f"mergebench.search_space names {unused[0]}, but the recipe nowhere says ${unused[0]}")


def _placeholders(value: object) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _placeholders(part)
    elif isinstance(value, str) and (match := PLACEHOLDER.fullmatch(value)):
        yield match[1]


def _filled(value: object, config: Mapping[str, object]) -> object:
    """Return a copy with the values of the placeholders."""
    if isinstance(value, dict):
        return {key: _filled(part, config) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, config) for part in value]
    match = PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
    return config[match[1]] if match else value


def _expanded(value: object, domains: Sequence[str]) -> object:
    """Return a copy in which each entry for `specialists` is one entry for every domain."""
    if isinstance(value, dict):
        return {key: _expanded(part, domains) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    parts: list[object] = []
    for part in value:
        is_each = isinstance(part, dict) and part.get("model") == SPECIALISTS
        parts += [{**part, "model": domain} for domain in domains] if is_each else [_expanded(part, domains)]
    return parts
