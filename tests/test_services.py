"""What a worker asks for while its method works."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mergebench_core.errors import EngineError, InputError, PluginError, StoreError
from mergebench_core.services import RunServices
from mergebench_core.tuning import ValidationMeter


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def services(toy_track, events):
    """Services on a bench that notes what it is asked."""

    def score(domains):
        events.append("score")
        return dict.fromkeys(domains, 0.12345)

    bench = SimpleNamespace(track=toy_track, surrogate_scores=score, park=lambda: events.append("park"))
    description = SimpleNamespace(name="mine", needs={"validation"})
    meter = ValidationMeter(35, 5)
    return RunServices(bench=bench, description=description, plan=None, reader=None, meter=meter)


def test_the_method_has_the_accelerator_again_after_a_validation(services, events):
    services.domains = ("math",)
    assert services.validate() == {"math": 0.123}
    assert events == ["score", "park"]


def test_loading_and_parking_the_resident_model_is_validation_runtime(toy_track, monkeypatch):
    ticks = iter(range(10))
    monkeypatch.setattr("mergebench_core.services.time.perf_counter", lambda: next(ticks))

    class Bench:
        track, base_checkpoint = toy_track, None

        @property
        def resident(self):
            return next(ticks)

        def park(self):
            next(ticks)

    description, plan = SimpleNamespace(name="mine", needs={"validation"}), SimpleNamespace(left_out=(), merged=())
    meter = ValidationMeter(35, 5)
    services = RunServices(bench=Bench(), description=description, plan=plan, reader=None, meter=meter)
    services.candidate(["math"])
    assert services.validation_s == 3


def test_the_accelerator_is_freed_whatever_comes_of_a_validation(services, events):
    services.domains = ("math",)
    services.bench.surrogate_scores = lambda domains: 1 / 0
    with pytest.raises(ZeroDivisionError):
        services.validate()
    assert events == ["park"]


def test_freeing_the_accelerator_is_validation_runtime(services, monkeypatch):
    ticks = iter(range(10))
    monkeypatch.setattr("mergebench_core.services.time.perf_counter", lambda: next(ticks))
    services.bench.park = lambda: next(ticks)
    services.domains = ("math",)
    services.validate()
    assert services.validation_s == 2


@pytest.mark.parametrize("error", [InputError("vLLM does not start"), StoreError("no room")])
def test_what_fails_while_a_candidate_is_scored_is_no_fault_of_the_method(services, events, monkeypatch, error):
    def fail(domains):
        raise error

    services.domains = ("math",)
    services.bench.surrogate_scores = fail
    with pytest.raises(EngineError, match=str(error)):
        services.validate()
    assert events == ["park"]


def test_what_a_method_did_not_declare_is_refused(services):
    services.description.needs = set()
    with pytest.raises(PluginError, match="does not declare"):
        services.candidate(None)
