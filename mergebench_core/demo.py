"""The demo: three methods on every base of the embedded track, the bases side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mergebench_core.api import DEFAULT_TRACK, open_bench, run_on
from mergebench_core.environment import num_cores
from mergebench_core.executors import map_processes
from mergebench_core.home import writable_home
from mergebench_core.tracks.registry import load_track
from mergebench_core.workbench import Progress
from mergebench_core.worker.catalog import find_method, load_catalog

METHODS = ("model_soup", "task_arithmetic", "ties")


def run_demo(home: Path | None, progress: Progress) -> list[str]:
    """Score the demo's methods on every base of the embedded track.

    Returns:
        The ids of the jobs, finished now or before.

    Raises:
        StoreError: the home cannot be written.
        RunError: a method failed.
    """
    bases = list(load_track(DEFAULT_TRACK).bases)
    job = partial(_run_base, home=writable_home(home))
    found = map_processes(job, bases, num_processes=min(len(bases), num_cores()), progress=progress)
    return [job_id for ids in found for job_id in ids]


def _run_base(base: str, progress: Progress, *, home: Path) -> list[str]:
    bench = open_bench(base, home=home, progress=progress)
    catalog = load_catalog()
    methods = [find_method(catalog, name) for name in METHODS]
    return [result.record.job_id for result in run_on(bench, methods)]
