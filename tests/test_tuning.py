"""The search: order, winner rule, failures, stages, budget."""

from __future__ import annotations

import pytest

from mergebench_core import Stage, grid, stages
from mergebench_core.errors import BudgetError, InputError, RunError
from mergebench_core.records import ConfigurationPart
from mergebench_core.tuning import ValidationMeter, check_cost, reuse_key, tune, validation_score, winner

DOMAINS = ("math", "coding")


def part(*scores: float, stage: int = 0, config=None, domains=DOMAINS) -> ConfigurationPart:
    """Return a scored configuration; without scores a failed one."""
    return ConfigurationPart(
        stage=stage,
        config=config or {},
        domains=domains,
        status="completed" if scores else "failed",
        reason=None if scores else "it overflowed",
        validation_scores=dict(zip(domains, scores, strict=True)) if scores else {},
        runtime_s=1.0,
    )


class Scorer:
    """Scores candidates by a function of their configuration and remembers what it was asked."""

    def __init__(self, score) -> None:
        self.score = score
        self.asked: list[tuple] = []

    def __call__(self, candidate, number: int, total: int) -> ConfigurationPart:
        self.asked.append((candidate.config, candidate.domains, number, total))
        found = self.score(candidate.config)
        scores = [] if found is None else [found] * len(candidate.domains)
        return part(*scores, stage=candidate.stage, config=candidate.config, domains=candidate.domains)

    @property
    def configs(self) -> list[dict]:
        return [config for config, *_ in self.asked]


def test_score_is_the_unweighted_mean_over_domains():
    assert validation_score(part(0.2, 0.6)) == pytest.approx(0.4)
    assert validation_score(part(0.5, domains=("math",))) == 0.5
    assert validation_score(part()) is None


@pytest.mark.parametrize(
    ("parts", "index"),
    [
        ([part(0.1, 0.1), part(0.9, 0.0), part(0.4, 0.4)], 1),
        ([part(0.5, 0.5), part(0.25, 0.75), part(0.75, 0.25)], 0),
        ([part(), part(0.0, 0.0)], 1),
        ([part(), part(0.3, 0.3), part(), part(0.3, 0.3)], 1),
        ([part(0.0, 0.0), part(0.0, 0.0)], 0),
    ],
)
def test_highest_wins_and_the_first_among_equals(parts, index):
    assert winner(parts) == index


def test_all_failed():
    with pytest.raises(RunError, match="every configuration failed; the first: it overflowed"):
        winner([part(), part()])
    with pytest.raises(RunError, match="every configuration failed"):
        tune(grid(a=[1, 2]), DOMAINS, None, Scorer(lambda config: None))


def test_single_configuration_is_not_scored():
    scorer = Scorer(lambda config: 0.5)
    tuned = tune(stages(Stage(parameters={"a": (3,), "b": ("x",)})), DOMAINS, None, scorer)
    assert tuned.config == {"a": 3, "b": "x"}
    assert tuned.configurations == ()
    assert scorer.asked == []
    assert tune(grid(), DOMAINS, None, scorer).config == {}


def test_grid_is_scored_in_order_and_recorded_in_order():
    scorer = Scorer(lambda config: config["a"] / 10)
    tuned = tune(grid(a=[1, 3, 2]), DOMAINS, None, scorer)
    assert scorer.asked == [({"a": a}, DOMAINS, rank, 3) for rank, a in enumerate((1, 3, 2), 1)]
    assert tuned.config == {"a": 3}
    assert [found.config["a"] for found in tuned.configurations] == [1, 3, 2]


def test_configurations_of_one_update_follow_one_another():
    """The coefficient is the slower parameter here: the order of scoring differs from that of the search space."""
    scorer = Scorer(lambda config: 0.5)
    tuned = tune(grid(scale=[1, 2], density=[0.1, 0.9]), DOMAINS, "scale", scorer)
    assert [(c["density"], c["scale"]) for c in scorer.configs] == [(0.1, 1), (0.1, 2), (0.9, 1), (0.9, 2)]
    in_space_order = [{"scale": s, "density": d} for s in (1, 2) for d in (0.1, 0.9)]
    assert [found.config for found in tuned.configurations] == in_space_order
    assert tuned.config == {"scale": 1, "density": 0.1}


def test_tie_goes_by_the_search_space_not_by_the_order_of_scoring():
    scores = {(1, 0.1): 0.1, (1, 0.9): 0.7, (2, 0.1): 0.7, (2, 0.9): 0.2}
    scorer = Scorer(lambda config: scores[config["scale"], config["density"]])
    tuned = tune(grid(scale=[1, 2], density=[0.1, 0.9]), DOMAINS, "scale", scorer)
    assert scorer.configs[1] == {"scale": 2, "density": 0.1}
    assert tuned.config == {"scale": 1, "density": 0.9}


def test_stages_feed_the_next_and_their_candidates_do_not_stay():
    space = stages(
        Stage(parameters={"mask_math": (1, 2)}, domains=("math",), candidate={"only": "math"}),
        Stage(parameters={"fixed": (7,)}),
        Stage(parameters={"scale": (0.5, 1.0)}),
    )
    scorer = Scorer(lambda config: config.get("scale", config["mask_math"] / 10))
    tuned = tune(space, DOMAINS, "scale", scorer)
    assert scorer.asked == [
        ({"only": "math", "mask_math": 1}, ("math",), 1, 2),
        ({"only": "math", "mask_math": 2}, ("math",), 2, 2),
        ({"mask_math": 2, "fixed": 7, "scale": 0.5}, DOMAINS, 1, 2),
        ({"mask_math": 2, "fixed": 7, "scale": 1.0}, DOMAINS, 2, 2),
    ]
    assert tuned.config == {"mask_math": 2, "fixed": 7, "scale": 1.0}
    assert [found.stage for found in tuned.configurations] == [0, 0, 2, 2]


def test_failed_configurations_are_recorded_and_lose():
    tuned = tune(grid(a=[1, 2, 3]), DOMAINS, None, Scorer(lambda config: None if config["a"] == 3 else 0.0))
    assert tuned.config == {"a": 1}
    assert [found.status for found in tuned.configurations] == ["completed", "completed", "failed"]


def test_stage_on_an_unknown_domain():
    space = stages(Stage(parameters={"a": (1, 2)}, domains=("maths",)))
    scorer = Scorer(lambda config: 0.5)
    with pytest.raises(InputError, match="unknown domain 'maths': did you mean 'math'"):
        tune(space, DOMAINS, None, scorer)
    assert scorer.asked == []


def test_meter_counts_shares_and_attempts_exactly():
    meter = ValidationMeter(2, 5)
    for _ in range(9):
        meter.charge(["math"])
    assert meter.used == 1.8
    with pytest.raises(BudgetError, match="more than 2 validations"):
        meter.charge(["math", "coding"])
    assert meter.used == 1.8
    meter.charge(["math"])
    assert meter.used == 2
    with pytest.raises(BudgetError):
        meter.charge(["math"])


def test_cost_over_the_cap():
    check_cost(grid(a=range(35)), 35, 5, "sample")
    with pytest.raises(
        InputError, match="method 'sample' has a search space of 36 validations; the track allows 35"
    ):
        check_cost(grid(a=range(36)), 35, 5, "sample")


def test_reuse_key_leaves_out_the_coefficient_only():
    assert reuse_key({"a": 1, "scale": 2}, "scale") == reuse_key({"scale": 3, "a": 1}, "scale")
    assert reuse_key({"a": 1, "scale": 2}, "scale") != reuse_key({"a": 2, "scale": 2}, "scale")
    assert reuse_key({"a": 1, "scale": 2}, None) != reuse_key({"a": 1, "scale": 3}, None)
