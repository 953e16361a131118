"""From task scores to the numbers on the board. Pure functions over scores in [0, 1]; nothing here is stored.

House rule (domain-first, the literal reading of arXiv:2505.10833): the score of a domain is the unweighted mean
over its test tasks; its normalized performance is that score divided by the same score of the domain's
specialist; the headline is the mean over the domains. Dividing per task first is computed as a check.
Generalization divides each general task by the base model's score, then takes the mean.

Whatever is missing makes the numbers that need it missing; an average over what happens to be there is never
taken. A denominator near the floor is not divided by: which ones that are depends on specialists and base model
alone, hence is the same for every method of a base, and the numbers say so (`removed_*`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FLOOR = 0.05
FLOOR_STANDARD_ERRORS = 5.0


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """What one model reached on one task."""

    score: float
    """In [0, 1], higher is better."""
    num_items: int


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The tasks that a complete result has."""

    domains: Mapping[str, tuple[str, ...]]
    """Test tasks by domain."""
    general: tuple[str, ...]
    """Generalization tasks."""


@dataclass(frozen=True, kw_only=True)
class Denominators:
    """The models that a merged model is measured against, scored on the same items; empty where not run."""

    specialists: Mapping[str, Mapping[str, TaskScore]]
    """Task scores by domain of the specialist."""
    base: Mapping[str, TaskScore]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A mean of task scores with its standard error."""

    value: float
    standard_error: float

    @property
    def is_divisor(self) -> bool:
        """Whether it lies far enough above zero to be divided by."""
        return self.value >= max(FLOOR, FLOOR_STANDARD_ERRORS * self.standard_error)


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Ratios, their mean, and what was not divided by."""

    ratios: Mapping[str, float | None]
    """By name; None if missing or removed."""
    mean: float | None
    """Over what is not removed; None if any of that is missing or nothing is left."""
    removed: tuple[str, ...]
    """Names whose denominator is near the floor."""


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """Every number that the board derives for one model. All fractions of 1."""

    raw: Mapping[str, float | None]
    """Domain score by domain."""
    normalized: Mapping[str, float | None]
    """Normalized performance by domain."""
    headline: float | None
    """Mean normalized performance over the domains."""
    task_first: float | None
    """The check value: normalized per task, mean per domain, mean over domains."""
    removed_domains: tuple[str, ...]
    """Domains left out of `headline`: the specialist's score is near the floor ("reduced suite")."""
    removed_tasks: tuple[str, ...]
    """Test tasks left out of `task_first` for the same reason."""
    raw_generalization: float | None
    """Mean score over the general tasks."""
    generalization: float | None
    """Mean over the general tasks of score divided by the base model's."""
    removed_general: tuple[str, ...]
    """General tasks left out of `generalization`: the base model's score is near the floor."""


def standard_error(score: float, num_items: int) -> float:
    """Return the standard error of a share of right items, sqrt(p(1-p)/(n-1)); infinite for a single item."""
    if num_items < 2:
        return math.inf
    return math.sqrt(score * (1.0 - score) / (num_items - 1))


def mean(values: Iterable[float | None]) -> float | None:
    """Return the unweighted mean, the same for any order; None if there is no value or one is missing."""
    given = list(values)
    present = [value for value in given if value is not None]
    return math.fsum(present) / len(present) if present and len(present) == len(given) else None


def measure(scores: Mapping[str, TaskScore], tasks: Iterable[str]) -> Measurement | None:
    """Return the unweighted mean over `tasks` with its standard error, or None if a task is missing."""
    found = [scores.get(task) for task in tasks]
    value = mean(score.score if score else None for score in found)
    if value is None:
        return None
    variances = [standard_error(score.score, score.num_items) ** 2 for score in found if score]
    return Measurement(value=value, standard_error=math.sqrt(math.fsum(variances)) / len(found))


def normalize(
    measured: Mapping[str, Measurement | None], divisors: Mapping[str, Measurement | None]
) -> Normalization:
    """Divide what was measured by the divisor of the same name.

    Args:
        measured: the model's scores by name; the names fix what a complete result has.
        divisors: the reference's scores; None or absent where the reference was not run.
    """
    ratios: dict[str, float | None] = {}
    removed: list[str] = []
    for name, score in measured.items():
        divisor = divisors.get(name)
        is_usable = divisor is not None and divisor.is_divisor
        if divisor is not None and not is_usable:
            removed.append(name)
        ratios[name] = score.value / divisor.value if score and divisor and is_usable else None
    kept = [ratio for name, ratio in ratios.items() if name not in removed]
    return Normalization(ratios=ratios, mean=mean(kept), removed=tuple(removed))


def score_model(scores: Mapping[str, TaskScore], suite: Suite, against: Denominators) -> ModelScores:
    """Derive every number of one model from its task scores.

    Args:
        scores: task scores of the model, test and general tasks together.
        suite: what a complete result has.
        against: specialists and base model of the same base, scored on the same items.
    """
    measured = {domain: measure(scores, tasks) for domain, tasks in suite.domains.items()}
    specialists = {
        domain: measure(against.specialists.get(domain, {}), tasks) for domain, tasks in suite.domains.items()
    }
    by_domain = normalize(measured, specialists)
    task_first, removed_tasks = _divide_per_task(scores, suite, against)
    general = normalize(_each(scores, suite.general), _each(against.base, suite.general))
    whole = measure(scores, suite.general)
    return ModelScores(
        raw={domain: score.value if score else None for domain, score in measured.items()},
        normalized=by_domain.ratios,
        headline=by_domain.mean,
        task_first=task_first,
        removed_domains=by_domain.removed,
        removed_tasks=removed_tasks,
        raw_generalization=whole.value if whole else None,
        generalization=general.mean,
        removed_general=general.removed,
    )


def _each(scores: Mapping[str, TaskScore], tasks: Iterable[str]) -> dict[str, Measurement | None]:
    return {task: measure(scores, [task]) for task in tasks}


def _divide_per_task(
    scores: Mapping[str, TaskScore], suite: Suite, against: Denominators
) -> tuple[float | None, tuple[str, ...]]:
    """Return the task-first headline and the tasks it had to leave out; a domain with none left is left out."""
    means: list[float | None] = []
    removed: list[str] = []
    for domain, tasks in suite.domains.items():
        specialist = against.specialists.get(domain, {})
        per_task = normalize(_each(scores, tasks), _each(specialist, tasks))
        removed += per_task.removed
        if set(per_task.removed) != set(tasks):
            means.append(per_task.mean)
    return mean(means), tuple(removed)
