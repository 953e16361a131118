"""Work folders: gone when closed, and what a killed process left goes when the next one makes its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mergebench_core.evaluation.engines.work_folder import WorkFolder

PROGRAM = Path(__file__).parent / "engine_process.py"


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def held(toy_track, tmp_path):
    """Return a function that starts a process with an engine and tells the id of the engine's own process."""
    started = []

    def hold(home: Path, moment: str) -> tuple[subprocess.Popen[bytes], int]:
        home.mkdir()
        model = toy_track.bases["toy-tied"].path
        process = subprocess.Popen([sys.executable, str(PROGRAM), str(model), str(home), moment])
        started.append((process, home))
        wait_for((home / ("engine.pid" if moment == "start" else "started")).exists, "engine")
        return process, int((home / "engine.pid").read_text())

    yield hold
    for process, home in started:
        process.kill()
        process.wait()
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int((home / "engine.pid").read_text()), signal.SIGKILL)


def test_a_closed_folder_is_gone(tmp_path):
    work = WorkFolder(tmp_path / "work")
    (work.path / "weights").mkdir()
    (work.path / "weights" / "file").write_text("x")
    assert work.path.parent == tmp_path / "work"
    work.close()
    assert names(tmp_path / "work") == set()


def test_a_held_folder_stays_and_a_left_one_goes(tmp_path):
    first = WorkFolder(tmp_path / "work")
    machine = first.path.name.partition("@")[0]
    for left in (f"{machine}@left", f"{machine}2@other"):  # a lock may not hold from one machine to another
        (tmp_path / "work" / left / "weights").mkdir(parents=True)
        (tmp_path / "work" / left / "weights" / "model.safetensors").write_bytes(b"x" * 100)
    second = WorkFolder(tmp_path / "work")
    assert names(tmp_path / "work") == {first.path.name, second.path.name, f"{machine}2@other"}
    first.close()
    third = WorkFolder(tmp_path / "work")
    assert names(tmp_path / "work") == {second.path.name, third.path.name, f"{machine}2@other"}
    second.close()
    third.close()


def test_a_folder_is_no_longer_held_when_its_process_was_killed(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; "
        "from mergebench_core.evaluation.engines.work_folder import WorkFolder; "
        "work = WorkFolder(Path(sys.argv[1])); print(work.path.name, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "work")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        name = process.stdout.readline().strip()
        WorkFolder(tmp_path / "work").close()
        assert names(tmp_path / "work") == {name}
        process.kill()
    WorkFolder(tmp_path / "work").close()
    assert names(tmp_path / "work") == set()


@pytest.mark.parametrize("moment", ["start", "run"])
def test_an_engine_is_ended_once_the_process_that_started_it_was_killed(held, tmp_path, moment):
    """vLLM's own process outlives it, and keeps the GPU's memory."""
    process, engine = held(tmp_path / "home", moment)
    WorkFolder(tmp_path / "home" / "work").close()
    assert is_running(engine)
    assert len(names(tmp_path / "home" / "work")) == 1
    process.kill()
    process.wait()
    assert is_running(engine)
    work = WorkFolder(tmp_path / "home" / "work")
    assert not is_running(engine)
    assert names(tmp_path / "home" / "work") == {work.path.name}
    work.close()


def test_an_engine_whose_folder_was_deleted_is_ended(held, tmp_path):
    process, engine = held(tmp_path / "home", "start")
    process.kill()
    process.wait()
    subprocess.run(["rm", "-r", str(tmp_path / "home" / "work")], check=True)
    WorkFolder(tmp_path / "home" / "work").close()
    assert not is_running(engine)


def test_another_s_process_that_writes_nearby_is_left_alone(tmp_path):
    """Its output lies in the folder of work folders, or in one of them, but is no engine's."""
    (tmp_path / "work" / "left" / "vllm-x").mkdir(parents=True)
    places = ["notes.log", "vllm.log", "left/vllm.log", "left/vllm-x/notes.log"]
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    writers = []
    for place in places:
        with (tmp_path / "work" / place).open("w") as file:
            writers.append(subprocess.Popen(sleep, stdout=file, stderr=file))
    WorkFolder(tmp_path / "work").close()
    assert [writer.poll() for writer in writers] == [None] * len(places)
    for writer in writers:
        writer.kill()
        writer.wait()


def test_an_engine_of_another_machine_s_folder_lives(tmp_path, monkeypatch):
    """Containers may see one another's processes under names of machines of their own."""
    monkeypatch.setattr("platform.node", lambda: "laptop")
    first = WorkFolder(tmp_path / "work")
    (first.path / "vllm-x").mkdir()
    with (first.path / "vllm-x" / "vllm.log").open("w") as log:
        engine = subprocess.Popen(["sleep", "100"], stdout=log)
    try:
        monkeypatch.setattr("platform.node", lambda: "laptop.lan")
        WorkFolder(tmp_path / "work").close()
        assert is_running(engine.pid)
        assert first.path.is_dir()
    finally:
        engine.kill()
        engine.wait()
        first.close()


def test_a_folder_of_another_user_is_left_alone(tmp_path, monkeypatch):
    first = WorkFolder(tmp_path / "work")
    own = Path.open

    def refuse(path, *arguments, **settings):
        if path == first.path / "lock":
            raise PermissionError(13, "Permission denied", str(path))
        return own(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refuse)
    second = WorkFolder(tmp_path / "work")
    assert first.path.is_dir()
    second.close()
    first.close()
