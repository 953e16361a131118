"""Jobs side by side in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mergebench_core.errors import MergebenchError
from mergebench_core.executors import run_commands


def is_mentioned(folder: Path) -> bool:
    """Return whether any process has `folder` in its command line or works below it."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (process / "cmdline").read_bytes():
                return True
            if (process / "cwd").readlink().is_relative_to(folder):
                return True
    return False


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_outputs_come_in_order_and_progress_is_relayed():
    lines: list[str] = []
    commands = [python(f"import sys; print({n} ** 2); print('squaring {n}', file=sys.stderr)") for n in (3, 1, 2)]
    assert run_commands(commands, num_processes=2, progress=lines.append) == ["9\n", "1\n", "4\n"]
    assert sorted(lines) == ["squaring 1", "squaring 2", "squaring 3"]


@pytest.mark.parametrize(("code", "exit_code"), [(1, 1), (2, 2), (7, 1)])
def test_a_failure_keeps_its_message_and_exit_code(code, exit_code):
    failing = f"import sys; print('mergebench: no such thing', file=sys.stderr); sys.exit({code})"
    with pytest.raises(MergebenchError, match="no such thing") as caught:
        run_commands([python("pass"), python(failing)], num_processes=1, progress=lambda line: None)
    assert caught.value.exit_code == exit_code


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False])
def test_interrupted_demo_says_so_in_one_line_and_leaves_no_process(own_home: Path, to_all: bool):
    process = subprocess.Popen(
        [sys.executable, "-m", "mergebench_core", "demo", "--no-serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(own_home.glob("runs/*/record.json")):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT) if to_all else process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert error.splitlines()[-1] == "mergebench: interrupted; the same command goes on where it was"
    while is_mentioned(own_home):  # the test's own time limit ends this
        time.sleep(0.1)
