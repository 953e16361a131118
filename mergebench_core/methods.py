"""The contract of a merging method: what it declares, what it is handed, what it returns.

A method computes an *update* in fp32; the core alone computes `round(base + coefficient * update)`, once, the
same for the model in memory and for the file. Importing this module never loads torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Protocol, TypeVar, get_args

from mergebench_core.errors import PluginError
from mergebench_core.hyperparameters import (
    Config,
    Hyperparameter,
    Parameter,
    SearchSpace,
    declaration,
    grid,
    undeclared,
)

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Depth = Literal["elementwise", "tensor", "model"]
Determinism = Literal["exact", "platform", "tolerance"]
Need = Literal["validation", "calibration"]
Role = Literal["linear", "norm", "bias", "embedding", "head", "other"]

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_BYTES_PER_PARAMETER = 10_000


class PerDomain(Generic[T]):
    """One value per domain. Iterating gives the values in the sorted order of their domains; `[domain]` gives one.

    Example:
        >>> PerDomain({"math": 2, "coding": 1})["math"], list(PerDomain({"math": 2, "coding": 1}))
        (2, [1, 2])
    """

    def __init__(self, values: Mapping[str, T]) -> None:
        self._values = {domain: values[domain] for domain in sorted(values)}

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self._values)

    def __getitem__(self, domain: str) -> T:
        return self._values[domain]

    def __iter__(self) -> Iterator[T]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def items(self) -> Iterable[tuple[str, T]]:
        return self._values.items()


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """What a method says of itself. Everything that it does not declare here is refused later."""

    name: str
    """snake_case, unique among all plugins: `task_arithmetic`."""
    title: str
    """As it is shown: `Task Arithmetic`."""
    paper_url: str
    """Where it is defined; empty if nowhere yet."""
    version: str = "1"
    """Raised by the author when results change."""
    needs: frozenset[Need] = frozenset()
    """`validation`: its configuration is chosen on surrogate tasks. `calibration`: it reads training samples."""
    depth: Depth = "elementwise"
    """`elementwise`: any chunk alone; `tensor`: whole tensors; `model`: `merge` sees everything."""
    determinism: Determinism = "exact"
    """`exact`: the same bytes on any CPU; `platform`: on one CPU class with one thread; `tolerance`: nearly."""
    is_stochastic: bool = False
    """Whether results depend on the seed."""
    base_roles: frozenset[Role] = frozenset({"embedding", "head"})
    """Roles whose tensors stay the base's; specialists may differ from the base there."""
    variant_of: str = ""
    """The method that this one is another reading of: `ties` for `ties_mergebench_compat`."""
    builds_on: tuple[str, ...] = ()
    """Methods of any plugin that this one calls; the loader binds them to `parts`."""
    formula: str = ""
    """The update in one line of plain text, for the documentation."""
    cost: str = ""
    """Passes over the models, and what is held in memory."""
    memory_bytes_per_parameter: float | None = None
    """Memory that `prepare` and `merge` hold beside a stream of chunks, per parameter of one model: for plans,
    until it was measured. None: nothing is said."""
    disk_bytes_per_parameter: float | None = None
    """What `prepare` keeps on disk, per parameter of one model with five specialists. None: nothing is said."""
    fidelity: str = ""
    """How it was checked, and where it differs from paper or released code."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", frozenset(self.needs))
        object.__setattr__(self, "base_roles", frozenset(self.base_roles))
        if not IDENTIFIER.fullmatch(self.name):
            raise PluginError(f"MethodInfo.name is '{self.name}': use snake_case, a-z, 0-9 and _, at most 64")
        for label, given, allowed in (
            ("needs", self.needs, get_args(Need)),
            ("base_roles", self.base_roles, get_args(Role)),
            ("depth", {self.depth}, get_args(Depth)),
            ("determinism", {self.determinism}, get_args(Determinism)),
        ):
            if unknown := sorted(set(given) - set(allowed)):
                raise PluginError(f"MethodInfo.{label} has {unknown}: allowed are {', '.join(allowed)}")
        for label, number in (
            ("memory_bytes_per_parameter", self.memory_bytes_per_parameter),
            ("disk_bytes_per_parameter", self.disk_bytes_per_parameter),
        ):
            if number is not None and not 0 <= number <= MAX_BYTES_PER_PARAMETER:
                raise PluginError(f"MethodInfo.{label} is {number}: allowed is 0 to {MAX_BYTES_PER_PARAMETER}")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What `prepare` returns: plain data, and tensors by label and tensor name.

    `tensors["mask.math"]["model.layers.0.mlp.up_proj.weight"]` reaches `update` as `prepared.tensor("mask.math")`,
    sliced like the weight in hand if it has as many elements, whole otherwise.
    """

    data: Mapping[str, object] = field(default_factory=dict)
    """JSON values only: numbers, strings, lists, dicts."""
    tensors: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    """By label of your choice, then by the name of the weight that they belong to."""


class PreparedView(Protocol):
    """What `update` sees of `Prepared`."""

    @property
    def data(self) -> Mapping[str, object]:
        """The plain data that `prepare` returned."""

    def tensor(self, label: str) -> torch.Tensor:
        """Return the tensor prepared under `label` for the weight in hand, sliced like it."""


class TensorChunk(Protocol):
    """A weight in hand: all of it (depth `tensor`) or a flat chunk of it (depth `elementwise`)."""

    @property
    def name(self) -> str:
        """Name of the weight, as in the checkpoint."""

    @property
    def role(self) -> Role:
        """What the weight is for: `linear`, `norm`, `bias`, `embedding`, `head` or `other`."""

    @property
    def layer(self) -> int | None:
        """Index of the transformer block, None outside the blocks."""

    @property
    def offset(self) -> int:
        """Index of the chunk's first element within the flattened tensor."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that the base stores the weight in, and that `merge_tensor` returns."""

    @property
    def domains(self) -> tuple[str, ...]:
        """The specialists' domains, sorted."""

    @property
    def base(self) -> torch.Tensor:
        """fp32 values of the base, flat for chunks, in the tensor's shape for whole tensors."""

    @property
    def specialists(self) -> PerDomain[torch.Tensor]:
        """fp32 values of the specialists, shaped like `base`."""

    @property
    def task_vectors(self) -> PerDomain[torch.Tensor]:
        """fp32 specialist minus base, shaped like `base`."""

    def random(self, domain: str) -> torch.Tensor:
        """Return fp32 uniforms on [0, 1), shaped like `base`, the same for any chunking.

        A counter-based stream (Philox4x64) keyed by seed, domain, tensor name and element; steps of 2**-16.
        """


class LazyModel(Protocol):
    """A checkpoint whose tensors are read when asked for."""

    @property
    def path(self) -> Path:
        """Folder that transformers can load; read only."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors."""

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor in its stored dtype and shape."""


class Context(Protocol):
    """The only door of a method to models, data and scores."""

    @property
    def base(self) -> LazyModel:
        """The base model."""

    @property
    def specialists(self) -> PerDomain[LazyModel]:
        """The specialists, by domain."""

    @property
    def seed(self) -> int:
        """The run's seed."""

    @property
    def device(self) -> torch.device:
        """Where heavy work may run: a GPU if there is one."""

    @property
    def work_folder(self) -> Path:
        """Scratch space of this run; removed afterwards."""

    def generator(self, *key: str) -> torch.Generator:
        """Return a CPU generator seeded by the run's seed and `key`."""

    @property
    def merged_names(self) -> tuple[str, ...]:
        """Names of the tensors that the method's policy merges, in the base's file order."""

    def chunks(self, names: Iterable[str] | None = None, depth: Depth = "elementwise") -> Iterator[TensorChunk]:
        """Walk over tensors in file order, those of `names`, by default all merged: in chunks, or whole for depth
        `tensor`."""

    def calibration(self, domain: str, num_samples: int) -> Iterator[Mapping[str, str]]:
        """Yield up to `num_samples` of the domain's samples: `prompt`, `completion`. Metered.

        Raises:
            PluginError: the method does not declare the need `calibration`.
        """

    def validate(
        self, tensors: Iterable[tuple[str, torch.Tensor]], domains: Iterable[str] | None
    ) -> Mapping[str, float]:
        """Score a candidate on the surrogate tasks: mean per domain, three decimals. Metered.

        Args:
            tensors: name and value of every tensor that the policy merges.
            domains: where to score; None for all domains.

        Raises:
            PluginError: the method does not declare the need `validation`.
        """

    def log(self, message: str) -> None:
        """Show a line in the run's progress."""


class MergingMethod:
    """Base class of merging methods. Objects keep no state between calls.

    Override `update` (depths `elementwise` and `tensor`) or `merge` (depth `model`).
    """

    info: ClassVar[MethodInfo]
    """What the method says of itself; required."""
    search_space: ClassVar[SearchSpace] = grid()
    """What the runner may try, made by `grid(...)` or `stages(...)`; default: one configuration."""
    linear_in: ClassVar[str | None] = None
    """The hyper-parameter that scales the update. `update` never sees it, so its values cost no re-merge."""
    hyperparameters: ClassVar[Mapping[str, Parameter]] = {}
    """What each hyper-parameter means, its default and its range. One that only the search space names may take
    any value of the first one's type; its default is the middle one."""
    parts: Mapping[str, MergingMethod] = {}
    """The methods that `info.builds_on` names, bound by the loader."""
    prepare_uses: ClassVar[tuple[str, ...]] = ()
    """Hyper-parameters that `prepare` sees, a per-domain one for every domain; its result is reused while they
    stay the same."""

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every hyper-parameter: those declared, then those that only the search space names."""
        found = dict(self.hyperparameters)
        for stage in self.search_space.stages:
            for name, values in stage.parameters.items():
                if declaration(found, name) is None:
                    found[name] = undeclared(values)
        return found

    def prepare(self, context: Context, config: Config) -> Prepared:
        """Return statistics that `update` needs, such as thresholds. Default: nothing."""
        return Prepared()

    def update(self, tensor: TensorChunk, config: Config, prepared: PreparedView) -> torch.Tensor:
        """Return the fp32 update of this chunk, shaped like `tensor.base`.

        The merged value is `round(base + coefficient * update)`; the coefficient is `config[linear_in]`, or 1.
        """
        raise NotImplementedError

    def merge_tensor(self, tensor: TensorChunk, config: Config, prepared: PreparedView) -> torch.Tensor:
        """Return the final value in the base's dtype, for methods that must control rounding themselves.

        A method that overrides this is not linear; `update` is then not called.
        """
        raise NotImplementedError

    def merge(self, context: Context, config: Config) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield name and final value of every tensor that the policy merges (depth `model`)."""
        raise NotImplementedError


def overrides(method: MergingMethod, name: str) -> bool:
    """Return whether the method's class defines `name` itself."""
    return getattr(type(method), name) is not getattr(MergingMethod, name)


def check_info(method: MergingMethod) -> None:
    """Check that a method says what it is.

    Raises:
        PluginError: it has no `MethodInfo`.
    """
    if not isinstance(getattr(method, "info", None), MethodInfo):
        raise PluginError(f"{type(method).__name__} has no `info = MethodInfo(...)`")


def check_method(method: MergingMethod) -> None:
    """Check that a method keeps the contract, once the methods that it builds on are bound.

    Raises:
        PluginError: naming what is missing or contradictory and how to mend it.
    """
    check_info(method)
    for problem in _contract_problems(method):
        raise PluginError(f"method '{method.info.name}' {problem}")


def _values_of(method: MergingMethod) -> list[Hyperparameter]:
    """Return every value of the hyper-parameter that scales the update."""
    steps = method.search_space.stages
    name = method.linear_in or ""
    default = [method.hyperparameters[name].default] if name in method.hyperparameters else []
    return default + [value for stage in steps for value in stage.parameters.get(name, ())]


def _contract_problems(method: MergingMethod) -> Iterator[str]:
    if not isinstance(method.search_space, SearchSpace):
        yield "has a search_space that is no SearchSpace; make it with grid(...) or stages(...)"
        return
    declared = method.parameters
    wanted = "merge" if method.info.depth == "model" else "update"
    if not overrides(method, wanted) and not (wanted == "update" and overrides(method, "merge_tensor")):
        yield f"does not define `{wanted}`, which depth '{method.info.depth}' needs"
    if method.search_space.is_tuned and "validation" not in method.info.needs:
        yield 'has a search space to tune but does not declare it; add needs={"validation"} to its MethodInfo'
    if method.linear_in is not None and method.linear_in not in declared:
        yield f"is linear_in '{method.linear_in}', which is no hyper-parameter of it; known: {tuple(declared)}"
    if method.linear_in is not None and (wanted == "merge" or overrides(method, "merge_tensor")):
        yield "overrides merge or merge_tensor and so cannot be linear; remove linear_in"
    if wrong := [value for value in _values_of(method) if isinstance(value, bool | str)]:
        yield f"is linear_in '{method.linear_in}', whose value {wrong[0]!r} is no number"
    if unknown := [
        name for name in method.prepare_uses if name not in declared and not declaration(declared, name)
    ]:
        yield f"has prepare_uses {unknown}, which are no hyper-parameters of it; known: {tuple(declared)}"
    for stage in method.search_space.stages:
        given = [*((name, value) for name, values in stage.parameters.items() for value in values)]
        for name, value in [*given, *stage.candidate.items()]:
            parameter = declaration(method.hyperparameters, name)
            if parameter is not None and (problem := parameter.problem(value)):
                yield f"tries {value!r} for {name} in its search_space, which it refuses itself: {problem}"
    if method.linear_in in method.prepare_uses:
        yield f"names '{method.linear_in}' both in linear_in and prepare_uses; prepare never sees it"
