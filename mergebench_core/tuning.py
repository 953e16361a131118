"""Choosing a configuration: the search over surrogate tasks. The rule that picks the winner is this file's.

A configuration's validation score is the unweighted mean of its surrogate scores over the stage's domains; the
highest wins, the first in the order of the search space among equals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mergebench_core.errors import BudgetError, InputError, RunError, unknown_name
from mergebench_core.hyperparameters import Config, Hyperparameter, SearchSpace
from mergebench_core.records import ConfigurationPart


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One configuration to score."""

    stage: int
    config: dict[str, Hyperparameter]
    """What the method is given, with what holds only in this stage."""
    chosen: dict[str, Hyperparameter]
    """What stays if it wins."""
    domains: tuple[str, ...]


Score = Callable[[Candidate, int, int], ConfigurationPart]
"""Scores a candidate, given its number and how many the stage has."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The outcome of a search."""

    config: dict[str, Hyperparameter]
    configurations: tuple[ConfigurationPart, ...]


class ValidationMeter:
    """Counts full validations; one domain costs its share; attempts count, whatever comes of them."""

    def __init__(self, max_validations: int, num_domains: int) -> None:
        self._max = max_validations
        self._num_domains = num_domains
        self._used_domains = 0

    @property
    def used(self) -> float:
        """Full validations used so far."""
        return self._used_domains / self._num_domains

    def charge(self, domains: Sequence[str]) -> None:
        """Count one validation on `domains`.

        Raises:
            BudgetError: more than the track allows.
        """
        if self._used_domains + len(domains) > self._max * self._num_domains:
            raise BudgetError(f"asked for more than {self._max} validations")
        self._used_domains += len(domains)


def check_cost(space: SearchSpace, max_validations: int, num_domains: int, method: str) -> None:
    """Check that a search space fits the track's cap.

    Raises:
        InputError: it asks for more validations.
    """
    cost = space.cost(num_domains)
    if cost > max_validations:
        raise InputError(
            f"method '{method}' has a search space of {cost:g} validations; the track allows {max_validations}: "
            "give fewer values"
        )


def tune(
    space: SearchSpace, domains: tuple[str, ...], linear_in: str | None, score: Score, start: Config | None = None
) -> Tuned:
    """Go through the stages and return the winning configuration with all that were scored.

    `start` holds the defaults: what a stage does not name keeps its value there until a stage chooses it.

    Stages with a single configuration cost nothing. Configurations that differ only in `linear_in` are scored one
    after the other, so that their update is computed once.

    Raises:
        InputError: a stage names a domain that there is not.
        RunError: every configuration of a stage failed.
    """
    for stage in space.stages:
        if unknown := sorted(set(stage.domains or ()) - set(domains)):
            raise unknown_name("domain", unknown[0], domains, "a stage of the method's search space names it.")
    chosen: dict[str, Hyperparameter] = dict(start or {})
    scored: list[ConfigurationPart] = []
    for number, stage in enumerate(space.stages):
        candidates = [
            Candidate(
                stage=number,
                config={**chosen, **stage.candidate, **values},
                chosen={**chosen, **values},
                domains=stage.domains or domains,
            )
            for values in stage.configurations()
        ]
        if len(candidates) == 1:
            chosen = candidates[0].chosen
            continue
        order = _reuse_order(candidates, linear_in)
        parts = {index: score(candidates[index], rank + 1, len(order)) for rank, index in enumerate(order)}
        in_order = [parts[index] for index in range(len(candidates))]
        scored += in_order
        chosen = candidates[winner(in_order)].chosen
    return Tuned(config=chosen, configurations=tuple(scored))


def validation_score(part: ConfigurationPart) -> float | None:
    """Return the mean surrogate score over the configuration's domains, None if it failed."""
    if part.status != "completed":
        return None
    return sum(part.validation_scores.values()) / len(part.validation_scores)


def winner(parts: Sequence[ConfigurationPart]) -> int:
    """Return the index of the winning configuration.

    Raises:
        RunError: all of them failed.
    """
    scores = [validation_score(part) for part in parts]
    if all(score is None for score in scores):
        raise RunError(f"every configuration failed; the first: {parts[0].reason}")
    return max(range(len(scores)), key=lambda index: (_or_lowest(scores[index]), -index))


def _or_lowest(score: float | None) -> float:
    return float("-inf") if score is None else score


def config_text(config: Config) -> str:
    """Return a configuration as `name=value` pairs."""
    return " ".join(f"{name}={value}" for name, value in config.items())


def reuse_key(config: Config, linear_in: str | None) -> str:
    """Return what identifies the update of a configuration: everything but its coefficient."""
    return json.dumps({name: value for name, value in config.items() if name != linear_in}, sort_keys=True)


def _reuse_order(candidates: Sequence[Candidate], linear_in: str | None) -> list[int]:
    keys = [reuse_key(candidate.config, linear_in) for candidate in candidates]
    return sorted(range(len(keys)), key=lambda index: (keys.index(keys[index]), index))
