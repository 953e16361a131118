"""What the host learns of a method: plain data, checked again when it arrives."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    model_validator,
)

from mergebench_core.errors import PluginError
from mergebench_core.hyperparameters import Config, Hyperparameter, Parameter, SearchSpace, Stage
from mergebench_core.methods import IDENTIFIER, MAX_BYTES_PER_PARAMETER, Depth, Determinism, Need, Role, overrides
from mergebench_core.plugins import LoadedMethod
from mergebench_core.worker.channel import CONTROLS, plain

MAX_TEXT = 10_000
MAX_PROBLEM = 500
MAX_NAMES = 1000
"""Of an object: each wrong one makes an error of its own."""
MAX_CONFIGURATIONS = 100_000
"""Of a stage: all of them are listed at once."""


def _shown(text: str) -> str:
    if CONTROLS.search(text.replace("\n", " ").replace("\t", " ")):
        raise ValueError("a text holds characters that cannot be shown")
    return text


def _few(values: object) -> object:
    if isinstance(values, dict) and len(values) > MAX_NAMES:
        raise ValueError(f"more than {MAX_NAMES} names")
    return values


def _identifier(name: str) -> str:
    if not IDENTIFIER.fullmatch(name):
        raise ValueError("a method's name is not snake_case")
    return name


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_shown)]
FIRST_ERROR = Field(fail_fast=True)
FEW = BeforeValidator(_few)
Texts = Annotated[tuple[Text, ...], FIRST_ERROR]
BytesPerParameter = Annotated[float, Field(ge=0, le=MAX_BYTES_PER_PARAMETER)]
Value = bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | float | Text
Values = Annotated[list[Value], FIRST_ERROR]


class StageDescription(BaseModel):
    """One stage of a search space."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    parameters: Annotated[dict[Text, Values], FEW]
    domains: Texts | None
    candidate: Annotated[dict[Text, Value], FEW]

    @model_validator(mode="after")
    def _is_finite(self) -> Self:
        if math.prod(len(values) for values in self.parameters.values()) > MAX_CONFIGURATIONS:
            raise ValueError(f"a stage has more than {MAX_CONFIGURATIONS} configurations")
        return self


class ParameterDescription(BaseModel):
    """One hyper-parameter; see `Parameter`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    default: Value
    meaning: Text
    low: float | None
    high: float | None
    is_low_open: bool
    is_high_open: bool
    choices: Texts
    is_per_domain: bool


class MethodDescription(BaseModel):
    """A method as its worker describes it. Comes from foreign code, hence checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    name: Annotated[str, AfterValidator(_identifier)]
    title: Text
    paper_url: Text
    version: Text
    summary: Text
    needs: Annotated[frozenset[Need], FIRST_ERROR]
    depth: Depth
    determinism: Determinism
    is_stochastic: bool
    base_roles: Annotated[frozenset[Role], FIRST_ERROR]
    variant_of: Text
    builds_on: Texts
    formula: Text
    cost: Text
    memory_bytes_per_parameter: BytesPerParameter | None
    disk_bytes_per_parameter: BytesPerParameter | None
    fidelity: Text
    hyperparameters: Annotated[dict[Text, ParameterDescription], FEW]
    linear_in: Text | None
    prepare_uses: Texts
    gives_final_values: bool
    """Whether it sends final tensors instead of updates."""
    stages: Annotated[tuple[StageDescription, ...], FIRST_ERROR]
    plugin: Text
    plugin_path: str
    reader_path: str
    """The plugin that read `plugin_path`; empty if that is a plugin itself."""

    @model_validator(mode="after")
    def _can_be_rebuilt(self) -> Self:
        try:
            declared, _ = self.parameters, self.search_space
        except PluginError as error:
            raise ValueError(plain(error, MAX_PROBLEM)) from None
        if self.linear_in is not None and self.linear_in not in declared:
            raise ValueError("linear_in names no hyper-parameter")
        if any(isinstance(value, bool | str) for value in self._coefficients()):
            raise ValueError("a value of the hyper-parameter that linear_in names is no number")
        return self

    def _coefficients(self) -> Iterator[Hyperparameter]:
        """Yield every value of the hyper-parameter that multiplies the updates."""
        for name, parameter in self.hyperparameters.items():
            if name == self.linear_in:
                yield parameter.default
        for stage in self.stages:
            yield from stage.parameters.get(self.linear_in or "", ())
            yield from (value for name, value in stage.candidate.items() if name == self.linear_in)

    @field_serializer("needs", "base_roles")
    def _in_order(self, values: frozenset[str]) -> list[str]:
        return sorted(values)

    def coefficient(self, config: Config) -> float | None:
        """Return what the method's updates are multiplied by; None if it sends final tensors."""
        return None if self.gives_final_values else float(config.get(self.linear_in or "", 1.0))

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The hyper-parameters, rebuilt."""
        return {name: Parameter(**found.model_dump()) for name, found in self.hyperparameters.items()}

    @property
    def search_space(self) -> SearchSpace:
        """The search space, rebuilt."""
        return SearchSpace(
            stages=tuple(
                Stage(
                    parameters={name: tuple(values) for name, values in stage.parameters.items()},
                    domains=stage.domains,
                    candidate=stage.candidate,
                )
                for stage in self.stages
            )
        )


def describe(loaded: LoadedMethod) -> dict[str, Any]:
    """Return the description of a loaded method as JSON values.

    Raises:
        PluginError: it says something of itself that cannot be shown or cannot be right.
    """
    try:
        return _description(loaded).model_dump(mode="json")
    except ValidationError as error:
        (problem, *_) = error.errors()
        text = ": ".join(filter(None, [".".join(map(str, problem["loc"])), problem["msg"]]))
        raise PluginError(f"method '{loaded.method.info.name}' cannot be described: {text}") from None


def _description(loaded: LoadedMethod) -> MethodDescription:
    method, info = loaded.method, loaded.method.info
    summary = type(method).__dict__.get("__doc__") or sys.modules[type(method).__module__].__doc__ or ""
    return MethodDescription(
        name=info.name,
        title=info.title,
        paper_url=info.paper_url,
        version=info.version,
        summary=summary.strip().split("\n")[0],
        needs=info.needs,
        depth=info.depth,
        determinism=info.determinism,
        is_stochastic=info.is_stochastic,
        base_roles=info.base_roles,
        variant_of=info.variant_of,
        builds_on=info.builds_on,
        formula=info.formula,
        cost=info.cost,
        memory_bytes_per_parameter=info.memory_bytes_per_parameter,
        disk_bytes_per_parameter=info.disk_bytes_per_parameter,
        fidelity=info.fidelity,
        hyperparameters={
            name: ParameterDescription(**asdict(parameter)) for name, parameter in method.parameters.items()
        },
        linear_in=method.linear_in,
        prepare_uses=method.prepare_uses,
        gives_final_values=info.depth == "model" or overrides(method, "merge_tensor"),
        stages=tuple(
            StageDescription(
                parameters={name: list(values) for name, values in stage.parameters.items()},
                domains=stage.domains,
                candidate=dict(stage.candidate),
            )
            for stage in method.search_space.stages
        ),
        plugin=loaded.source.distribution if loaded.source.module else loaded.source.name,
        plugin_path=str(loaded.source.path),
        reader_path=str(loaded.reader.path) if loaded.reader else "",
    )
