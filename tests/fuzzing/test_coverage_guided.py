"""Seconds of fuzzing led by coverage for each reader of what comes from outside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("coverage_guided.py")
SECONDS = 15
SEED = 20261101


@pytest.mark.slow
@pytest.mark.parametrize("harness", ["header", "index", "channel", "conversation", "description"])
def test_no_input_is_found_that_breaks_a_reader(tmp_path, harness):
    pytest.importorskip("atheris", reason="atheris is not installed; it has wheels for Linux on x86-64 only")
    command = [sys.executable, str(SCRIPT), harness, str(SECONDS), str(SEED), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=500, check=False)
    report = done.stderr[-5000:]
    assert done.returncode == 0, report
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [], report
    executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
    assert executions is not None, report
    assert int(executions[1]) > 200
