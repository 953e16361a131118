"""Scores against numbers computed by hand, and laws that hold for any numbers."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergebench_core import scoring
from mergebench_core.scoring import Denominators, Measurement, Suite, TaskScore, score_model

SUITE = Suite(domains={"math": ("m1",), "coding": ("c1", "c2")}, general=("g1", "g2"))
SPECIALIST = {"m1": 0.7, "c1": 0.625, "c2": 0.5}
BASE = {"g1": 0.8, "g2": 0.5}
MERGED = {"m1": 0.6, "c1": 0.625, "c2": 2.6 / 6, "g1": 0.4, "g2": 0.6}


def scores(values: Mapping[str, float], num_items: int = 1000) -> dict[str, TaskScore]:
    return {task: TaskScore(score=value, num_items=num_items) for task, value in values.items()}


def against(specialist: Mapping[str, float] = SPECIALIST, base: Mapping[str, float] = BASE) -> Denominators:
    return Denominators(specialists={"math": scores(specialist), "coding": scores(specialist)}, base=scores(base))


def test_domain_first_and_task_first() -> None:
    """Worked by hand: 0.6/0.7 and (0.625 + 0.4333)/2 / 0.5625, then per task."""
    model = score_model(scores(MERGED), SUITE, against())
    assert model.headline == pytest.approx(0.898942, abs=1e-6)
    assert model.task_first == pytest.approx(0.895238, abs=1e-6)
    assert model.normalized == pytest.approx({"math": 0.857143, "coding": 0.940741}, abs=1e-6)
    assert model.raw == pytest.approx({"math": 0.6, "coding": (0.625 + 2.6 / 6) / 2})


def test_generalization_is_relative_to_the_base_per_task() -> None:
    model = score_model(scores(MERGED), SUITE, against())
    assert model.generalization == pytest.approx((0.4 / 0.8 + 0.6 / 0.5) / 2)
    assert model.raw_generalization == pytest.approx(0.5)


def test_a_specialist_keeps_itself_whole() -> None:
    model = score_model(scores({**SPECIALIST, **BASE}), SUITE, against())
    assert (model.headline, model.task_first, model.generalization) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("missing", ["m1", "c1", "c2"])
def test_a_missing_test_task_leaves_no_headline(missing: str) -> None:
    values = {task: value for task, value in MERGED.items() if task != missing}
    model = score_model(scores(values), SUITE, against())
    domain = "math" if missing == "m1" else "coding"
    other = "coding" if missing == "m1" else "math"
    assert (model.headline, model.task_first, model.raw[domain], model.normalized[domain]) == (None,) * 4
    assert model.normalized[other] is not None
    assert model.generalization is not None


def test_a_missing_general_task_leaves_no_generalization() -> None:
    model = score_model(scores({**MERGED} | {"g1": 0.4}), SUITE, against(base={"g1": 0.8}))
    assert (model.generalization, model.raw_generalization) == (None, pytest.approx(0.5))
    assert model.headline is not None


def test_a_missing_specialist_leaves_no_headline() -> None:
    only_math = Denominators(specialists={"math": scores(SPECIALIST)}, base=scores(BASE))
    model = score_model(scores(MERGED), SUITE, only_math)
    assert (model.headline, model.normalized["coding"]) == (None, None)
    assert model.raw["coding"] is not None
    assert model.removed_domains == ()


@pytest.mark.parametrize(
    ("score", "num_items", "is_divisor"),
    [
        (0.31, 164, True),
        (0.10, 164, False),
        (0.0172, 5000, False),
        (0.05, 5000, True),
        (1.0, 2, True),
        (1.0, 1, False),
    ],
)
def test_floor(score: float, num_items: int, is_divisor: bool) -> None:
    """0.31 of 164 has the limit 0.181; 0.10 of 164 has 0.117; 0.0172 lies below 0.05."""
    error = scoring.standard_error(score, num_items)
    assert Measurement(value=score, standard_error=error).is_divisor is is_divisor


def test_standard_error_of_published_means() -> None:
    assert scoring.standard_error(0.351024, 1319) == pytest.approx(0.013147, abs=1e-6)
    assert scoring.standard_error(0.479795, 13091) == pytest.approx(0.004367, abs=1e-6)


def test_standard_error_of_a_mean_of_tasks() -> None:
    measured = scoring.measure(scores({"c1": 0.625, "c2": 0.5}), ("c1", "c2"))
    assert measured is not None
    assert measured.standard_error == pytest.approx(math.sqrt(0.625 * 0.375 / 999 + 0.25 / 999) / 2)


def test_a_domain_near_the_floor_is_removed_for_every_method() -> None:
    weak = against({**SPECIALIST, "m1": 0.02})
    for merged in (MERGED, {**MERGED, "m1": 0.9}, {**MERGED, "m1": 0.0}):
        model = score_model(scores(merged), SUITE, weak)
        assert model.removed_domains == ("math",)
        assert model.headline == model.normalized["coding"] == pytest.approx(0.940741, abs=1e-6)
        assert (model.normalized["math"], model.raw["math"]) == (None, merged["m1"])


def test_a_removed_domain_need_not_be_measured() -> None:
    values = {task: value for task, value in MERGED.items() if task != "m1"}
    model = score_model(scores(values), SUITE, against({**SPECIALIST, "m1": 0.02}))
    assert model.headline == pytest.approx(0.940741, abs=1e-6)


def test_one_weak_task_leaves_only_the_check_value() -> None:
    """c2 of the specialist is near the floor, its domain's mean is not."""
    model = score_model(scores(MERGED), SUITE, against({**SPECIALIST, "c2": 0.02}))
    assert (model.removed_domains, model.removed_tasks) == ((), ("c2",))
    assert model.headline == pytest.approx((0.6 / 0.7 + (0.625 + 2.6 / 6) / (0.625 + 0.02)) / 2)
    assert model.task_first == pytest.approx((0.6 / 0.7 + 0.625 / 0.625) / 2)


def test_all_denominators_near_the_floor_leave_nothing() -> None:
    model = score_model(scores(MERGED), SUITE, against(dict.fromkeys(SPECIALIST, 0.01), dict.fromkeys(BASE, 0.01)))
    assert (model.headline, model.task_first, model.generalization) == (None, None, None)
    assert model.removed_general == ("g1", "g2")


shares = st.floats(min_value=0.2, max_value=0.5)


@given(st.lists(shares, min_size=6, max_size=6), st.floats(min_value=0.5, max_value=2.0), st.randoms())
def test_a_common_factor_on_model_and_specialist_changes_nothing(
    values: list[float], factor: float, rng: random.Random
) -> None:
    merged, specialist = (
        dict(zip(SPECIALIST, values[:3], strict=True)),
        dict(zip(SPECIALIST, values[3:], strict=True)),
    )
    plain = score_model(scores(merged), SUITE, against(specialist))
    scaled = score_model(
        scores({task: value * factor for task, value in merged.items()}),
        SUITE,
        against({task: value * factor for task, value in specialist.items()}),
    )
    assert scaled.headline == pytest.approx(plain.headline)
    assert scaled.task_first == pytest.approx(plain.task_first)


@given(st.lists(shares, min_size=10, max_size=10), st.randoms())
def test_order_does_not_matter(values: list[float], rng: random.Random) -> None:
    tasks = [f"t{index}" for index in range(5)]
    merged, specialist = dict(zip(tasks, values[:5], strict=True)), dict(zip(tasks, values[5:], strict=True))
    shuffled = rng.sample(tasks, 5)

    def headline(order: list[str]) -> scoring.ModelScores:
        domains = {task: (task,) for task in order[:2]} | {"rest": tuple(order[2:])}
        reference = {task: specialist[task] for task in order}
        return score_model(
            scores({task: merged[task] for task in order}),
            Suite(domains=dict(reversed(domains.items())), general=()),
            Denominators(specialists=dict.fromkeys(domains, scores(reference)), base={}),
        )

    first = sorted(shuffled[:2]) + sorted(shuffled[2:])
    assert headline(first).headline == headline(shuffled).headline
    assert headline(first).task_first == headline(shuffled).task_first


def test_scoring_needs_nothing_heavy() -> None:
    assert not {"torch", "duckdb", "numpy"} & {name.split(".")[0] for name in vars(scoring)}
    assert "mergebench_core.scoring" in sys.modules
