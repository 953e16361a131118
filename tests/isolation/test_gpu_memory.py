"""GPU memory by process: what the driver's words come to, and the peak of a worker as the host sees it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkpoint_samples import DOMAINS, SampleModels, random_models
from gpu_samples import LISTING, MIB, PEAK_BYTES, MadeUpDriver, sleeping
from worker_samples import DictSink, SampleServices, assembly_for

from mergebench_core.errors import BudgetError
from mergebench_core.isolation import gpu_memory
from mergebench_core.isolation.gpu_memory import GpuMeter, Source, listed, source, used_by_pid
from mergebench_core.isolation.policy import MethodLimits, devices
from mergebench_core.plugins import file_source
from mergebench_core.worker.host import Job, MethodWorker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="GPUs are given to workers on Linux only")


@pytest.fixture(autouse=True)
def forgotten_source():
    yield
    source.cache_clear()


@pytest.fixture
def driver(tmp_path, monkeypatch) -> MadeUpDriver:
    return MadeUpDriver(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n  \n", {}),
        ("17, 300\n18, 0\n", {17: 300 * MIB, 18: 0}),
        ("17, 300\n18, 5\n17, 200", {17: 500 * MIB, 18: 5 * MIB}),
        ("17, [N/A]\n", None),
        ("17, 300\n18, [Not Supported]\n", None),
        ("17, -300\n", None),
        ("17, 1.5\n", None),
        ("17\n", None),
        ("17, 3, 4\n", None),
        ("No devices were found\n", None),
        ("\x00\x1b[2J", None),
    ],
)
def test_rows_of_the_program(text, expected):
    assert listed(text) == expected


def test_without_program_and_library_nobody_is_asked(driver, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source() is None
    driver.says("print('1, 300')")
    monkeypatch.setenv("PATH", str(tmp_path / "driver"))
    assert used_by_pid() is None, "decided once"


@pytest.mark.parametrize(
    "code",
    ["print('1, 300'); raise SystemExit(9)", "print('1, [N/A]')", "print('99999999, 300')", "print('what?')"],
)
def test_what_the_program_cannot_tell_is_unknown(driver, code):
    driver.says(code)
    assert used_by_pid() is None


def test_program_that_hangs_is_given_up(driver, monkeypatch):
    monkeypatch.setattr(gpu_memory, "TIMEOUT_S", 0.3)
    driver.says("exec sleep 60", shebang="/bin/sh")  # at its end it would say that nothing is used
    assert used_by_pid() is None


def test_process_that_ended_meanwhile_is_not_taken_for_one_of_another_machine(monkeypatch):
    answers = deque([{1: 5, 99999999: 7}, {1: 6}])
    monkeypatch.setattr(gpu_memory, "source", lambda: Source(read=answers.popleft, pause_s=1.0))
    assert used_by_pid() == {1: 6}


class MadeUpLibrary:
    """Stands in for `pynvml`: two devices."""

    class NVMLError(Exception):
        pass

    def __init__(self, *devices: dict[int, int | None]) -> None:
        self.devices = devices
        self.is_broken = False

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.devices:
            raise self.NVMLError

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.is_broken:
            raise self.NVMLError
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[int, int | None]:  # noqa: N802
        return self.devices[index]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: dict[int, int | None]) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=amount) for pid, amount in handle.items()]


def test_library_is_asked_before_the_program(driver, monkeypatch):
    driver.says("print('1, 9000')")
    library = MadeUpLibrary({1: 300}, {1: 20})
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert used_by_pid() == {1: 320}
    library.devices[1][1] = None
    assert used_by_pid() is None
    library.is_broken = True
    assert used_by_pid() is None


def test_library_without_a_driver_leaves_it_to_the_program(driver, monkeypatch):
    driver.says("print('1, 9000')")
    monkeypatch.setitem(sys.modules, "pynvml", MadeUpLibrary())
    assert used_by_pid() == {1: 9000 * MIB}


# ------------------------------------------------------------------------------------------------------ meter


def meter_of(monkeypatch, *readings: dict[int, int] | None) -> GpuMeter:
    """Return a meter of the processes 11 and 12 that has had these readings."""
    answers = deque(readings)
    monkeypatch.setattr(gpu_memory, "used_by_pid", answers.popleft)
    meter = GpuMeter(lambda: [11, 12], Source(read=dict, pause_s=1.0))
    for _ in readings:
        meter.sample()
    return meter


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([], None),
        ([{}], 0),
        ([{99: 500}], 0),
        ([{11: 3}, {11: 5, 12: 4, 99: 500}, {12: 8}], 9),
        ([{11: 3}, None, {11: 5}], None),
    ],
)
def test_peak_is_the_largest_sum_of_the_own_processes(monkeypatch, readings, expected):
    monkeypatch.setattr(gpu_memory, "has_first_pids", lambda: True)
    assert meter_of(monkeypatch, *readings).peak_bytes() == expected


def test_nothing_seen_in_a_container_is_unknown(monkeypatch):
    """There the driver may leave out what runs, or know it by another number."""
    monkeypatch.setattr(gpu_memory, "has_first_pids", lambda: False)
    assert meter_of(monkeypatch, {}, {}).peak_bytes() is None
    assert meter_of(monkeypatch, {}, {11: 3}).peak_bytes() == 3


def test_process_that_started_meanwhile_counts(monkeypatch):
    seen = deque([[11], [11, 12]])
    monkeypatch.setattr(gpu_memory, "used_by_pid", lambda: {11: 1, 12: 2})
    meter = GpuMeter(seen.popleft, Source(read=dict, pause_s=1.0))
    meter.sample()
    assert meter.peak_bytes() == 3


# ---------------------------------------------------------------------------------------------------- workers


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> SampleModels:
    return random_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def sleeper(models, tmp_path):
    """Start a worker whose method waits for a sleeping child, in a sandbox of at most that level."""
    path = tmp_path / "sleeping.py"
    opened = []

    def start(ceiling: int, code: str, time_s: float = 600.0) -> MethodWorker:
        path.write_text(code)
        worker = MethodWorker(
            num_threads=1,
            log_file=tmp_path / "worker.log",
            services=SampleServices(models=models),
            sources=[file_source(path)],
            models=[models.base.path, *(models.specialists[domain].path for domain in DOMAINS)],
            limits=MethodLimits(time_s=time_s),
            ceiling=ceiling,
        )
        opened.append(worker)
        worker.load([file_source(path)])
        specialists = {domain: models.specialists[domain].path for domain in DOMAINS}
        worker.open(Job(method="sleeping", base=models.base.path, specialists=specialists, seed=0, num_threads=1))
        return worker

    yield start
    for worker in opened:
        worker.__exit__(None, None, None)


@pytest.mark.parametrize("ceiling", [0, 3])
def test_peak_of_a_worker(driver, sleeper, ceiling):
    """Also across namespaces, where the worker's processes have other numbers; without the runner's own memory."""
    driver.says(LISTING)
    worker = sleeper(ceiling, sleeping(100))
    assert worker.peak_gpu_bytes() == 40 * MIB
    worker.prepare({})
    assert worker.peak_gpu_bytes() == PEAK_BYTES


HANGING = "import time; time.sleep(100)"


def prepare_and_merge(worker: MethodWorker, models: SampleModels) -> None:
    worker.prepare({})
    worker.merge({}, assembly_for(models, frozenset({"embedding", "head"}), DictSink(), 1.0))


@pytest.mark.parametrize("code", [LISTING + "print('99999999, 300')", "raise SystemExit(1)", HANGING])
def test_run_completes_where_the_peak_is_unknown(driver, sleeper, models, monkeypatch, code):
    monkeypatch.setattr(gpu_memory, "TIMEOUT_S", 0.5)
    driver.says(code)
    worker = sleeper(0, sleeping(1))
    prepare_and_merge(worker, models)
    assert worker.peak_gpu_bytes() is None


def test_time_limit_holds_while_the_driver_hangs(driver, sleeper, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_memory, "TIMEOUT_S", 100.0)
    hanging = tmp_path / "hanging"
    driver.says(LISTING)
    worker = sleeper(0, sleeping(100), time_s=600.0)
    driver.says(f"import os; os.mkdir({str(hanging)!r} + str(os.getpid())); {HANGING}")
    while not (found := list(tmp_path.glob("hanging*"))):
        time.sleep(0.01)
    worker._clock._before_s = 599.5
    with pytest.raises(BudgetError, match="more than 600 s of time and was ended"):
        worker.prepare({})
    pid = int(found[0].name.removeprefix("hanging"))
    assert Path(f"/proc/{pid}/cmdline").read_text()  # it hangs still
    os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(bool(devices()), reason="this machine has a GPU")
def test_workers_without_a_gpu_cost_nothing(sleeper, monkeypatch):
    monkeypatch.setattr(gpu_memory, "source", pytest.fail)
    worker = sleeper(0, sleeping(1))
    worker.prepare({})
    assert worker.peak_gpu_bytes() is None


ALLOCATING = """
import torch
from mergebench_core import MergingMethod, MethodInfo, Prepared, hookimpl

class Allocating(MergingMethod):
    info = MethodInfo(name="sleeping", title="Allocating", paper_url="", determinism="tolerance")

    def prepare(self, context, config):
        torch.empty(1 << 30, dtype=torch.uint8, device=context.device)
        return Prepared()

    def update(self, tensor, config, prepared):
        return torch.zeros_like(tensor.base)

@hookimpl
def mergebench_register_methods(register):
    register(Allocating())
"""


@pytest.mark.parametrize("ceiling", [0, 3])
def test_gigabyte_on_a_gpu(sleeper, tmp_path, ceiling):
    """It is in the peak, and given back before the engine's turn though the allocator would keep it."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    worker = sleeper(ceiling, ALLOCATING)
    worker.prepare({})
    peak = worker.peak_gpu_bytes()
    if peak is None and not gpu_memory.has_first_pids():
        pytest.skip("in this container the driver does not tell whose memory it is")
    assert 1 << 30 <= peak <= 2.5 * (1 << 30)
    used = used_by_pid()
    assert 0 < sum(used.get(pid, 0) for pid in worker._worker.sandbox.all_processes()) < 1 << 30
