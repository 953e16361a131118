"""The demo: three methods on every base of the embedded track, the bases side by side."""

from __future__ import annotations

import sys
from pathlib import Path

from mergebench_core.api import DEFAULT_TRACK, open_bench, run_on
from mergebench_core.environment import num_cores
from mergebench_core.executors import run_commands
from mergebench_core.home import writable_home
from mergebench_core.tracks.registry import load_track
from mergebench_core.workbench import Progress
from mergebench_core.worker.catalog import find_method, load_catalog

METHODS = ("model_soup", "task_arithmetic", "ties")


def run_demo(home: Path | None, progress: Progress) -> None:
    """Score the demo's methods on every base of the embedded track, each base in a process of its own.

    Raises:
        StoreError: the home cannot be written.
        RunError: a method failed.
    """
    folder = writable_home(home)
    bases = list(load_track(DEFAULT_TRACK).bases)
    program = [sys.executable, "-m", "mergebench_core", "demo", "--no-serve", "--home", str(folder)]
    commands = [[*program, "--base", base, "--json"] for base in bases]
    run_commands(commands, num_processes=min(len(bases), num_cores()), progress=progress)


def run_demo_on(base: str, home: Path | None, progress: Progress) -> None:
    """Score the demo's methods on one base, in this process."""
    catalog = load_catalog()
    with open_bench(base, home=home, progress=progress) as bench:
        run_on(bench, [find_method(catalog, name) for name in METHODS])
