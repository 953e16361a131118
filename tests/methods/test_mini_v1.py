"""Every bundled method on both bases of the embedded track: one merge each, and, slowly, the whole run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_samples import SampleModels
from mergekit_samples import require_mergekit
from worker_samples import SampleServices

from mergebench_core import api
from mergebench_core.calibration import CalibrationReader
from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.checkpoints.policy import check_compatible
from mergebench_core.hyperparameters import resolve_config
from mergebench_core.plugins import installed_sources, load_methods
from mergebench_core.tracks.registry import load_track

TRACK = load_track("mini-v1")
BUNDLED = [source for source in installed_sources() if source.distribution.startswith("mergebench ")]
METHODS = sorted(load_methods(BUNDLED))
SMALL = {"num_calibration_samples": 8}
"""Settings that keep a merge short, for methods that have them."""


@pytest.fixture(autouse=True)
def _optional_packages(name):
    if name.startswith("mergekit_"):
        require_mergekit()


@pytest.mark.parametrize("base", list(TRACK.bases))
@pytest.mark.parametrize("name", METHODS)
def test_one_merge(bench, tmp_path, base, name):
    """The output fits the base, is finite, and is not the base."""
    method = bench.methods[name]
    given = {key: value for key, value in SMALL.items() if key in method.parameters}
    config = resolve_config(method.parameters, given, TRACK.domains, name)
    folders = TRACK.base(base)
    specialists = {domain: Checkpoint(path) for domain, path in folders.specialists.items()}
    models = SampleModels(base=Checkpoint(folders.path), specialists=specialists)
    bench.worker.services = SampleServices(models=models, reader=CalibrationReader(TRACK))
    digest = bench.merge(models, name, config, tmp_path / "out")
    check_compatible(models.base, Checkpoint(tmp_path / "out"), name)
    assert digest != weights_sha256(models.base)


SEARCHES = {base: METHODS[number :: len(TRACK.bases)] for number, base in enumerate(TRACK.bases)}
"""Methods whose whole search runs on a base: each on one, for an hour of CI; the other has its merges above."""


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """Runs of the methods, one process per base side by side: the home they share, and their output by base."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "MERGEBENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(Path(__file__).parent.parent / "mini_runs.py")]
    log = (home / "log").open("w")
    running = {
        base: subprocess.Popen([*program, base, *names], stdout=subprocess.PIPE, stderr=log, env=environment)
        for base, names in SEARCHES.items()
    }
    yield home, {base: process.stdout for base, process in running.items()}
    for process in running.values():
        process.kill()
        process.communicate()
    log.close()


@pytest.mark.slow
@pytest.mark.parametrize(("base", "name"), [(base, name) for base, names in SEARCHES.items() for name in names])
def test_full_search(searches, base, name):
    """The method's whole search space, then the winner's file: as many configurations scored as it declares."""
    home, outputs = searches
    endings = (line.decode().split(maxsplit=1) for line in outputs[base])
    assert next(ending for method, ending in endings if method == name).strip() == "completed"
    result = api.run(name, base=base, home=home)
    space = load_methods(BUNDLED)[name].method.search_space
    assert len(result.record.configurations) == space.num_configurations
    assert all(part.status == "completed" for part in result.record.configurations)
    assert weights_sha256(Checkpoint(result.folder / "weights")) == result.record.weights_sha256
    assert result.record.weights_sha256 != result.record.input_sha256["base"]
