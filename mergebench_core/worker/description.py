"""What the host learns of a method: plain data, checked again when it arrives."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer

from mergebench_core.hyperparameters import Config, Parameter, SearchSpace, Stage
from mergebench_core.methods import Depth, Determinism, Need, Role, overrides
from mergebench_core.plugins import LoadedMethod


class StageDescription(BaseModel):
    """One stage of a search space."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: dict[str, list[bool | int | float | str]]
    domains: tuple[str, ...] | None
    candidate: dict[str, bool | int | float | str]


class ParameterDescription(BaseModel):
    """One hyper-parameter; see `Parameter`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: bool | int | float | str
    meaning: str
    low: float | None
    high: float | None
    is_low_open: bool
    is_high_open: bool
    choices: tuple[str, ...]
    is_per_domain: bool


class MethodDescription(BaseModel):
    """A method as its worker describes it. Comes from foreign code, hence checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    name: str
    title: str
    paper_url: str
    version: str
    summary: str
    needs: frozenset[Need]
    depth: Depth
    determinism: Determinism
    is_stochastic: bool
    base_roles: frozenset[Role]
    variant_of: str
    builds_on: tuple[str, ...]
    formula: str
    cost: str
    fidelity: str
    hyperparameters: dict[str, ParameterDescription]
    linear_in: str | None
    prepare_uses: tuple[str, ...]
    gives_final_values: bool
    """Whether it sends final tensors instead of updates."""
    stages: tuple[StageDescription, ...]
    plugin: str
    plugin_path: str
    reader_path: str
    """The plugin that read `plugin_path`; empty if that is a plugin itself."""

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
    """Return the description of a loaded method as JSON values."""
    method, info = loaded.method, loaded.method.info
    summary = type(method).__dict__.get("__doc__") or sys.modules[type(method).__module__].__doc__ or ""
    description = MethodDescription(
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
    return description.model_dump(mode="json")
