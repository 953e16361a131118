"""What the host sees of processes that come, go, and stand still."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mergebench_core.isolation import processes
from mergebench_core.isolation.processes import descendants

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_processes_that_come_and_go_break_nothing():
    """Between a look at what /proc lists and a look into it, a process may end."""
    with subprocess.Popen(["/bin/sh", "-c", "while :; do (:); done"]) as parent:
        try:
            seen = {pid for _ in range(5000) for pid in descendants(parent.pid)}
        finally:
            parent.kill()
    assert len(seen) > 10


def test_memory_of_what_stands_still_is_looked_at_once(attacker, level, monkeypatch):
    looks = []
    sandbox = attacker.start("time.sleep(600)")
    sandbox._watch.stop()
    sandbox.freeze()
    monkeypatch.setattr(processes, "memory_bytes", lambda pid: looks.append(pid) or 0)
    assert [sandbox._check_memory() for _ in range(3)] == [None] * 3
    assert sorted(looks) == ([] if level == 3 else sorted(descendants(sandbox.process.pid)))
    sandbox.thaw()
    num_looks = len(looks)
    assert [sandbox._check_memory() for _ in range(3)] == [None] * 3
    assert len(looks) == 4 * num_looks
