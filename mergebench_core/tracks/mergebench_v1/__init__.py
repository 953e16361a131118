"""The track mergebench-v1: the paper's bases, specialists and tasks (arXiv:2505.10833). Lives on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.tracks.digests import file_digests
from mergebench_core.tracks.mergebench_v1 import suite
from mergebench_core.tracks.mergebench_v1.bases import DOMAINS, bases
from mergebench_core.tracks.mergebench_v1.lock import read_lock
from mergebench_core.tracks.track import EvaluationSettings, Track

if TYPE_CHECKING:
    from mergebench_core.tracks.world import WorldOptions

_FOLDER = Path(__file__).parent
DEFAULT_JUDGE = "wildguard"
DIGEST_PATTERNS = ("tasks/*.yaml", "tasks/*_yaml", "tasks/*.py", "item_sets.py")
"""Globs of the shipped files that can move a score; code that adapts data shows in the digests of the data."""


def load(options: WorldOptions) -> Track:
    """Return the track as the package defines it; nothing is fetched."""
    return Track(
        name="mergebench-v1",
        title="MergeBench, version 1",
        domains=DOMAINS,
        bases=bases(read_lock().revisions()),
        tasks=suite.tasks(options.suite, options.protocol),
        task_folder=_FOLDER / "tasks",
        calibration_folder=_FOLDER / "calibration",
        num_calibration_samples=1000,
        max_validations=35,
        evaluation=EvaluationSettings(
            batch_size=8,
            generation_batch_size=64,
            max_length=4096,
            num_threads=1,
            dtype="bfloat16",
            device="auto",
            truncates=True,
        ),
        file_digests=file_digests(_FOLDER, DIGEST_PATTERNS),
        folder=_FOLDER,
        suite=options.suite,
        protocol=options.protocol,
        engine=options.engine,
        judge=options.judge or DEFAULT_JUDGE,
    )
