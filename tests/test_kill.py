"""A run that is killed by SIGKILL, wherever it stands, is completed by running it again."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mergebench_core.records import RunRecord, parse_record
from mergebench_core.store import open_board

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "toy_run.py"
METHOD = "task_arithmetic"


def start(track_file: Path, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(track_file), METHOD, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(track_file: Path, home: Path) -> RunRecord:
    process = start(track_file, home)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return parse_record(out, home)


def outcome(record: RunRecord) -> tuple[object, ...]:
    """Return what must not depend on when a run was killed."""
    return (
        record.weights_sha256,
        record.config,
        [(part.config, part.validation_scores) for part in record.configurations],
        {name: (part.score, part.items_sha256) for name, part in record.tasks.items()},
        record.meters.validations,
    )


@pytest.fixture(scope="module")
def track_file(toy_track, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("kill") / "track.pickle"
    path.write_bytes(pickle.dumps(toy_track))
    return path


@pytest.fixture(scope="module")
def undisturbed(track_file, tmp_path_factory) -> RunRecord:
    return finish(track_file, tmp_path_factory.mktemp("undisturbed"))


def count(pattern: str, at_least: int) -> Callable[[Path], bool]:
    return lambda home: len(list(home.glob(pattern))) >= at_least


MOMENTS = {
    "at the start": lambda home: home.is_dir(),
    "while references are scored": count("runs/*/record.json", 3),
    "before the first configuration": count("runs/*/worker.log", 1),
    "after some configurations": count("runs/*/configurations/*.json", 4),
    "while the winner is written": count("runs/*/.weights.partial", 1),
    "when the weights are there": count("runs/*/weights", 1),
    "while the winner is evaluated": count("runs/*/tasks/*.json", 45),
    "when the record is there": count("runs/*/record.json", 8),
}


def kill_at(moment: Callable[[Path], bool], track_file: Path, home: Path) -> bool:
    """Start a run and kill it at the moment; return whether it was caught there, and had not ended."""
    process = start(track_file, home)
    while process.poll() is None and not moment(home):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_killed_run_is_completed_by_another(track_file, undisturbed, tmp_path, moment):
    homes = (tmp_path / f"killed{attempt}" for attempt in range(10))
    home = next(home for home in homes if kill_at(MOMENTS[moment], track_file, home))
    done_before = {p: p.stat().st_mtime_ns for p in home.glob("runs/*/configurations/*.json")}
    record = finish(track_file, home)
    assert outcome(record) == outcome(undisturbed)
    assert {p: p.stat().st_mtime_ns for p in done_before} == done_before
    assert not list(home.glob("runs/*/.weights.partial"))
    connection = open_board(home)
    assert connection.execute("select count(*) from runs").fetchone() == (8,)


def test_killed_again_and_again(track_file, undisturbed, tmp_path):
    """Killed after ever longer delays, the run still gets done, and in no more steps than it has."""
    home = tmp_path / "killed"
    for attempt in range(40):
        process = start(track_file, home)
        try:
            process.communicate(timeout=2.5 + 0.8 * attempt)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        assert process.returncode == 0
        break
    assert outcome(finish(track_file, home)) == outcome(undisturbed)
