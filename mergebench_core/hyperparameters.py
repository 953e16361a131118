"""Hyper-parameters of merging methods: what they mean, which values they take, and how they are searched."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from mergebench_core.errors import InputError, PluginError, unknown_name

MAX_NUMBER = sys.float_info.max

Hyperparameter = bool | int | float | str
Config = Mapping[str, Hyperparameter]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A hyper-parameter that a method declares: its default, and which values it takes.

    Example:
        >>> Parameter(default=0.2, low=0.0, is_low_open=True, high=1.0).problem(1.5)
        'give a number above 0 and up to 1'
    """

    default: Hyperparameter
    """Used where neither the search space nor the user says otherwise; its type is the parameter's."""
    meaning: str = ""
    """One line for the documentation."""
    low: float | None = None
    """Lowest value."""
    high: float | None = None
    """Highest value."""
    is_low_open: bool = False
    """Whether `low` itself is refused."""
    is_high_open: bool = False
    """Whether `high` itself is refused."""
    choices: tuple[str, ...] = ()
    """Values of a text parameter; empty for any text."""
    is_per_domain: bool = False
    """Whether each domain has its own value, named `<parameter>_<domain>`."""

    def __post_init__(self) -> None:
        if problem := self.problem(self.default):
            raise PluginError(f"a hyper-parameter has default {self.default!r}: {problem}")

    def problem(self, value: object) -> str | None:
        """Return what values are allowed if `value` is not one of them, else None."""
        return None if self._allows(value) else f"give {self.allowed()}"

    def allowed(self) -> str:
        """Return which values are allowed, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return f"one of {', '.join(self.choices)}" if self.choices else "a text"
        kind = "an integer" if isinstance(self.default, int) else "a number"
        low = "" if self.low is None else f" {'above' if self.is_low_open else 'from'} {self.low:g}"
        high = "" if self.high is None else f"{'below' if self.is_high_open else 'up to'} {self.high:g}"
        if low.startswith(" from") and high:
            return f"{kind}{low} to {high.removeprefix('up to ')}"
        return kind + low + (" and " if low and high else " " if high else "") + high

    def _allows(self, value: object) -> bool:
        if isinstance(self.default, bool) or isinstance(value, bool):
            return isinstance(self.default, bool) and isinstance(value, bool)
        if isinstance(self.default, str) or isinstance(value, str):
            fits = isinstance(self.default, str) and isinstance(value, str)
            return fits and (not self.choices or value in self.choices)
        if not isinstance(value, int if isinstance(self.default, int) else int | float):
            return False
        if not (-MAX_NUMBER <= value <= MAX_NUMBER):  # NaN is not either
            return False
        is_above = self.low is None or (value > self.low if self.is_low_open else value >= self.low)
        return is_above and (self.high is None or (value < self.high if self.is_high_open else value <= self.high))


SCALING_COEFFICIENT = Parameter(default=0.4, meaning="multiplier of the update")
NUM_CALIBRATION_SAMPLES = Parameter(default=1000, low=1, high=1000, meaning="calibration samples read per domain")
DENSITY = Parameter(default=0.2, low=0.0, is_low_open=True, high=1.0, meaning="fraction kept")


def resolve_config(
    parameters: Mapping[str, Parameter], given: Config, domains: Sequence[str], method: str
) -> dict[str, Hyperparameter]:
    """Return the whole configuration: `given`, with defaults where it says nothing.

    Raises:
        InputError: an unknown hyper-parameter, or a value of the wrong type or out of range.
    """
    known = dict(_expand(parameters, domains))
    for name, value in given.items():
        if name not in known:
            raise unknown_name(
                "hyper-parameter", name, known, f"`mergebench methods {method}` says what {method} takes."
            )
        if problem := known[name].problem(value):
            raise InputError(f"hyper-parameter '{name}' of {method} is {value!r}: {problem}")
    return {name: given.get(name, parameter.default) for name, parameter in known.items()}


def _expand(parameters: Mapping[str, Parameter], domains: Sequence[str]) -> Iterator[tuple[str, Parameter]]:
    """Yield every name that a configuration may hold, per-domain parameters once for each domain."""
    for name, parameter in parameters.items():
        if parameter.is_per_domain:
            yield from ((f"{name}_{domain}", parameter) for domain in domains)
        else:
            yield name, parameter


def declaration(parameters: Mapping[str, Parameter], name: str) -> Parameter | None:
    """Return what declares the hyper-parameter `name` of a configuration; per-domain names match any domain."""
    owner = declared_name(parameters, name)
    return None if owner is None else parameters[owner]


def declared_name(parameters: Mapping[str, Parameter], name: str) -> str | None:
    """Return the name under which `name` of a configuration is declared: `lambda` for `lambda_math`."""
    if name in parameters and not parameters[name].is_per_domain:
        return name
    owners = [key for key, value in parameters.items() if value.is_per_domain and name.startswith(f"{key}_")]
    return max(owners, key=len) if owners else None


def undeclared(values: Sequence[Hyperparameter]) -> Parameter:
    """Return what can be said of a hyper-parameter that only a search space names: the middle value's type."""
    middle = values[(len(values) - 1) // 2]
    is_real = type(middle) is int and any(isinstance(value, float) for value in values)
    return Parameter(default=float(middle) if is_real else middle)


def parse_value(text: str, parameter: Parameter) -> Hyperparameter:
    """Return a value typed on a command line, in the parameter's type if it can be read so, else the text."""
    if isinstance(parameter.default, bool):
        return {"true": True, "false": False}.get(text.lower(), text)
    for kind in (int, float):
        if not isinstance(parameter.default, str):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _is_plain(value: object) -> bool:
    return isfinite(value) if isinstance(value, float) else isinstance(value, bool | int | str)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a search: every combination of `parameters` is scored, the best one feeds the next stage."""

    parameters: Mapping[str, tuple[Hyperparameter, ...]]
    """Values to try, by hyper-parameter."""
    domains: tuple[str, ...] | None = None
    """Domains the candidates are scored on; None for all."""
    candidate: Mapping[str, Hyperparameter] = field(default_factory=dict)
    """Hyper-parameters that hold only while this stage is scored, naming the candidate that it scores."""

    def __post_init__(self) -> None:
        values = {name: tuple(given) for name, given in self.parameters.items()}
        if empty := [name for name, given in values.items() if not given]:
            raise PluginError(f"a stage of the search space gives no value for {', '.join(empty)}")
        for name, given in [*values.items(), *((name, (value,)) for name, value in self.candidate.items())]:
            if wrong := [value for value in given if not _is_plain(value)]:
                raise PluginError(f"a stage gives {wrong[0]!r} for {name}; give numbers, strings or booleans")
        object.__setattr__(self, "parameters", values)

    def configurations(self) -> list[dict[str, Hyperparameter]]:
        """Return every combination, the last parameter varying fastest."""
        names = list(self.parameters)
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*self.parameters.values())]


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The stages a runner goes through to choose a configuration."""

    stages: tuple[Stage, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all hyper-parameters, in the order of the stages."""
        return tuple(name for stage in self.stages for name in stage.parameters)

    @property
    def is_tuned(self) -> bool:
        """Whether there is anything to choose."""
        return any(len(stage.configurations()) > 1 for stage in self.stages)

    @property
    def num_configurations(self) -> int:
        """How many configurations are scored; the paper's "runs"."""
        counts = (len(stage.configurations()) for stage in self.stages)
        return sum(count for count in counts if count > 1)

    def cost(self, num_domains: int) -> float:
        """Return the validations it takes; a stage on one of five domains costs a fifth for each candidate."""
        num_domain_validations = sum(
            len(stage.configurations()) * len(stage.domains or range(num_domains))
            for stage in self.stages
            if len(stage.configurations()) > 1
        )
        return num_domain_validations / num_domains


def grid(**parameters: Iterable[Hyperparameter]) -> SearchSpace:
    """Return a search space of one stage: every combination of the values given.

    Example:
        >>> grid(density=[0.2, 0.5], scaling_coefficient=[0.5, 1.0]).cost(num_domains=5)
        4.0
    """
    return stages(Stage(parameters={name: tuple(values) for name, values in parameters.items()}))


def stages(*steps: Stage) -> SearchSpace:
    """Return a search space of several stages, gone through in order.

    Raises:
        PluginError: a hyper-parameter is chosen in two stages.
    """
    space = SearchSpace(stages=steps)
    if len(set(space.parameters)) != len(space.parameters):
        raise PluginError("a hyper-parameter is named in two stages of the search space; choose it in one")
    return space
