"""What a method may ask for while it prepares: samples, scores, a word; when it prepares again."""

from __future__ import annotations

import pytest
from checkpoint_samples import DOMAINS, NORM

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import MethodError


def test_prepare_sees_only_what_it_uses_and_is_reused(bench, services, models, tmp_path):
    bench.open(models, "counted")
    configs = [{"density": d, "other": o, "scale": s} for d in (0.2, 0.5) for o in (1, 2) for s in (1.0, 2.0)]
    for config in [*configs, *reversed(configs)]:
        bench.worker.prepare(config)
        bench.write(models, "counted", config, tmp_path / "out")
        added = Checkpoint(tmp_path / "out").tensor(NORM).float() - models.base.tensor(NORM).float()
        expected = config["density"] * config["other"] * config["scale"]
        assert float(added.mean()) == pytest.approx(expected, abs=0.02)
    assert services.logged == ["prepare {'density': 0.2} scratch 0", "prepare {'density': 0.5} scratch 0"]


def test_fresh_prepare_is_never_reused_and_starts_with_an_empty_folder(bench, services, models):
    bench.open(models, "counted")
    config = {"density": 0.2, "other": 1, "scale": 1.0}
    bench.worker.prepare(config)
    bench.worker.prepare(config, is_fresh=True)
    assert services.logged == ["prepare {'density': 0.2} scratch 0"] * 2


def test_opening_again_forgets_what_was_prepared(bench, services, models):
    for _ in range(2):
        bench.open(models, "counted")
        bench.worker.prepare({"density": 0.2, "other": 1, "scale": 1.0})
    assert len(services.logged) == 2


@pytest.mark.parametrize(
    ("num_samples", "asked"), [(60, [(0, 50), (50, 10)]), (1, [(0, 1)]), (200, [(0, 50), (50, 50), (100, 50)])]
)
def test_samples_come_in_portions_until_there_are_no_more(bench, services, models, num_samples, asked):
    bench.open(models, "reader")
    bench.worker.prepare({"num_samples": num_samples})
    assert services.asked == [("math", start, count) for start, count in asked]
    count = min(num_samples, 100)
    assert services.logged == [f"{count} samples, last math {count - 1}"]


@pytest.mark.parametrize(("num_characters", "num_messages"), [(1000, 2), (100_000, 6), (900_000, 60)])
def test_long_samples_come_in_as_many_messages_as_they_need(bench, services, models, num_characters, num_messages):
    rows = [{"prompt": f"math {number}", "completion": "x" * num_characters} for number in range(60)]
    asked = []
    services.samples = lambda domain, start, count: asked.append(start) or rows[start : start + count]
    bench.open(models, "reader")
    bench.worker.prepare({"num_samples": 60})
    assert services.logged == ["60 samples, last math 59"]
    assert (len(asked), asked[0]) == (num_messages, 0)


def test_own_search_validates_candidates(bench, services, models, tmp_path):
    digest = bench.merge(models, "searcher", {}, tmp_path / "out", chunk_numel=3)
    sums = {d: round(float(models.specialists[d].tensor(NORM).float().sum()), 3) for d in DOMAINS}
    assert services.asked == [(domain,) for domain in DOMAINS]
    assert services.logged == [str({domain: {domain: score} for domain, score in sums.items()})]
    best = max(sums, key=sums.get)
    assert digest == bench.merge(models, "one_specialist", {"domain": best}, tmp_path / "best")


@pytest.mark.parametrize(
    ("method", "config", "message"),
    [
        (
            "undeclared_reader",
            {"num_samples": 2},
            'reads calibration samples without declaring it; add needs={"calibration"}',
        ),
        ("undeclared_searcher", {}, 'asks for validation scores without declaring it; add needs={"validation"}'),
    ],
)
def test_undeclared_need_is_refused_and_the_host_never_asked(bench, services, models, method, config, message):
    bench.open(models, method)
    with pytest.raises(MethodError) as error:
        bench.worker.prepare(config)
    assert message in str(error.value)
    assert "sample_plugin.py, line " in str(error.value)
    assert services.asked == []


def test_refusal_of_the_host_reaches_the_method_and_the_user(bench, services, models):
    services.candidate = lambda domains: SampleRefusal.candidate(domains)
    bench.open(models, "searcher")
    with pytest.raises(MethodError, match=r"there is no room for candidates \(.*sample_plugin\.py, line \d+\)"):
        bench.worker.prepare({})
    bench.open(models, "model_soup")
    bench.worker.prepare({})


class SampleRefusal:
    @staticmethod
    def candidate(domains):
        raise MethodError("there is no room for candidates")
