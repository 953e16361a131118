"""Methods that attack through the worker they run in. What counts is what the host measured and received."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from checkpoint_samples import DOMAINS, random_models
from worker_samples import DictSink, SampleServices, assembly_for

from mergebench_core.errors import BudgetError, MethodError
from mergebench_core.isolation.policy import MethodLimits
from mergebench_core.plugins import file_source
from mergebench_core.worker.host import Job, MethodWorker

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="sandboxes need Linux")]
PLUGIN = Path(__file__).parent / "hostile_plugin.py"
MIB = 1 << 20


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return random_models(tmp_path_factory.mktemp("models"))


class Host:
    """A worker at one level with one method open."""

    def __init__(self, worker, models, method: str) -> None:
        self.worker = worker
        self.models = models
        self.sink = DictSink()
        worker.load([file_source(PLUGIN)])
        specialists = {domain: models.specialists[domain].path for domain in DOMAINS}
        worker.open(Job(method=method, base=models.base.path, specialists=specialists, seed=0, num_threads=1))

    def merge(self, *, gives_final_values: bool = False) -> None:
        coefficient = None if gives_final_values else 1.0
        roles = frozenset({"embedding", "head"})
        self.worker.prepare({})
        self.worker.merge({}, assembly_for(self.models, roles, self.sink, coefficient))


@pytest.fixture
def host(level, models, tmp_path):
    """Start a worker at the level with limits and services."""
    opened = []

    def start(method: str, services=None, **limits) -> Host:
        paths = [models.base.path, *(models.specialists[domain].path for domain in DOMAINS)]
        worker = MethodWorker(
            num_threads=1,
            log_file=tmp_path / "worker.log",
            services=services or SampleServices(models=models),
            sources=[file_source(PLUGIN)],
            models=paths,
            limits=MethodLimits(**limits),
            ceiling=level,
        )
        opened.append(worker)
        assert worker.isolation.level == level
        return Host(worker, models, method)

    yield start
    for worker in opened:
        worker.__exit__(None, None, None)


def test_claiming_to_be_done(host):
    with pytest.raises(MethodError.__mro__[1], match="the method gave 0 of"):
        host("lying").merge()


def test_stopping_the_clocks(host):
    found = host("timeless")
    started = time.monotonic()
    before = found.worker._clock.elapsed_s()
    found.merge()
    assert 0.7 <= found.worker._clock.elapsed_s() - before <= time.monotonic() - started


def test_asking_for_scores_without_end(host, models):
    """The host counts; a used-up budget ends the run, whatever the method catches."""

    class Counting(SampleServices):
        left = 5

        def candidate(self, domains):
            if self.left == 0:
                raise BudgetError("no more validations")
            self.left -= 1
            return super().candidate(domains)

    with pytest.raises(BudgetError, match="no more validations"):
        host("greedy", Counting(models=models)).merge(gives_final_values=True)


def test_working_while_the_host_scores(host, models):
    """A thread and a child process of the method stand still."""

    class Slow(SampleServices):
        def validate(self):
            before = sizes()
            time.sleep(0.5)
            self.grown = [after - old for after, old in zip(sizes(), before, strict=True)]
            return super().validate()

    def sizes() -> list[int]:
        scratch = found.worker._folder / "scratch"
        return [(scratch / name).stat().st_size for name in ("thread", "child")]

    services = Slow(models=models)
    found = host("working", services)
    found.merge(gives_final_values=True)
    assert all(size > 0 for size in sizes())
    assert services.grown == [0, 0]


def test_taking_memory(host):
    found = host("hungry", memory_bytes=900 * MIB)
    with pytest.raises(BudgetError, match="more than 943718400 bytes of memory and was ended"):
        found.merge()


def test_taking_time(host):
    found = host("endless", time_s=600.0)
    found.worker._clock._before_s = 599.0
    with pytest.raises(BudgetError, match="more than 600 s of time and was ended"):
        found.merge()
