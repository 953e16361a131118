"""Which level a sandbox gets, what is recorded of it, and that less than was demanded is refused."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from attack_samples import Attacker

from mergebench_core import doctor
from mergebench_core.environment import environment
from mergebench_core.errors import InputError, IsolationError
from mergebench_core.evaluation.programs import Program, programs_isolation, run_programs
from mergebench_core.isolation import bubblewrap, cgroups, identity, sandbox
from mergebench_core.isolation.level import DENIED_AT_1, VARIABLE, level_of
from mergebench_core.isolation.policy import HIDDEN, PACKAGE, Limits, Policy, model_paths, outermost
from mergebench_core.isolation.processes import descendants
from mergebench_core.worker.host import MethodWorker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes need Linux")
DENIED = dict.fromkeys([*DENIED_AT_1, "see_process", "memfd"], "denied (EPERM)")
ALL = ("mountns", "seccomp")


@pytest.mark.parametrize(
    ("changes", "mechanisms", "is_hard", "expected"),
    [
        ({}, ALL, True, 3),
        ({"memfd": "allowed"}, ALL, True, 3),
        ({}, ALL, False, 2),
        ({"memfd": "allowed"}, ALL, False, 1),
        ({"see_process": "allowed"}, ALL, True, 1),
        ({}, ("seccomp",), True, 1),
        *(({name: "allowed"}, ALL, True, 0) for name in DENIED_AT_1),
    ],
)
def test_the_probe_decides(changes, mechanisms, is_hard, expected):
    assert level_of(DENIED | changes, mechanisms, is_memory_hard=is_hard) == expected


def test_no_probe_no_level():
    assert level_of({}, ALL, is_memory_hard=True) == 0
    assert level_of({"read_file": "denied (EACCES)"}, ALL, is_memory_hard=True) == 0


def test_what_is_recorded(attacker, level):
    """The record's part round-trips, and names what there was."""
    found = attacker.start("time.sleep(60)").isolation
    part = environment(1, found).isolation
    assert type(found).model_validate_json(part.model_dump_json()) == found
    assert ("pidns" in found.mechanisms) == (level >= 2)
    assert found.is_memory_hard == (level == 3)
    assert found.has_own_user == (level > 0 and os.geteuid() == 0)
    open_doors = {name for name, result in found.probe.items() if result == "allowed"}
    assert open_doors == (set(found.probe), {"see_process"}, set(), {"memfd"})[level]
    assert found.limits["memory_bytes"] == 256 << 20


def test_less_than_demanded_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "2")
    monkeypatch.setattr(bubblewrap, "obstacle", lambda: "bubblewrap is not installed; install it")
    sandbox.means.cache_clear()
    programs_isolation.cache_clear()
    try:
        with pytest.raises(IsolationError, match=r"level 2 is demanded, this machine gives [01] \(bubblewrap"):
            run_programs([Program(code="", entry_point="f", inputs=((),))])
        with pytest.raises(IsolationError), Attacker(3, tmp_path) as attacker:
            attacker.start("")
        (check,) = (found for found in doctor.check_all(tmp_path / "home") if found.name == "isolation")
        assert not check.is_ok
    finally:
        sandbox.means.cache_clear()
        programs_isolation.cache_clear()


def test_a_worker_that_is_refused_leaves_nothing(monkeypatch, tmp_path):
    """No descriptor, no folder, no process."""
    monkeypatch.setenv(VARIABLE, "3")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def refuse() -> None:
        with pytest.raises(IsolationError, match="level 3 is demanded"):
            MethodWorker(num_threads=1, log_file=tmp_path / "log", ceiling=0)

    refuse()
    gc.collect()  # what earlier tests left open
    before = len(list(Path("/proc/self/fd").iterdir()))
    children = set(descendants(os.getpid()))
    refuse()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert set(descendants(os.getpid())) <= children
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["log"]


def test_without_bubblewrap_the_level_is_lower_and_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(bubblewrap, "obstacle", lambda: "bubblewrap is not installed; install it")
    sandbox.means.cache_clear()
    try:
        given = sandbox.means()
        assert not given.has_bubblewrap
        assert "bubblewrap is not installed; install it" in given.missing
    finally:
        sandbox.means.cache_clear()


@pytest.mark.parametrize("text", ["4", "high", "-1", ""])
def test_a_level_that_is_none(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InputError, match="give a level from 0 to 3"):
        run_programs([Program(code="", entry_point="f", inputs=((),))])


def test_hidden_folders_are_cut_out_of_what_is_readable(tmp_path):
    package = tmp_path / "package"
    for name in ("worker/a.py", "tracks/items/test.jsonl", "tracks/models/base/model.safetensors", "errors.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    model = package / "tracks" / "models" / "base"
    policy = Policy(
        readable=(tmp_path, model), hidden=(package / "tracks",), writable=tmp_path / "work", listable=()
    )
    readable, listable = policy.rules()
    assert set(readable) == {str(package / "worker"), str(package / "errors.py"), str(model)}
    assert set(listable) == {str(tmp_path), str(package)}


def test_test_items_are_hidden_by_default():
    assert (PACKAGE / "tracks",) == HIDDEN == Policy(readable=(), writable=Path("/x")).hidden


def test_links_of_a_model_are_shown_with_what_they_lead_to(tmp_path):
    """As in the cache of the Hub: a snapshot is a folder of links."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc").touch()
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to("../blobs/abc")
    assert model_paths(tmp_path / "snapshot") == (tmp_path / "snapshot", tmp_path / "blobs" / "abc")


def test_outermost(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert outermost([tmp_path / "a" / "b", tmp_path / "a", Path("/usr/lib/x")]) == (tmp_path / "a",)


def test_what_is_closed_to_others(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir(mode=0o755)
    (folder / "weights").touch(mode=0o644)
    assert identity.closed_path([folder], is_reached_by_path=False) is None
    assert identity.closed_path([folder], is_reached_by_path=True) is not None  # pytest's folders are closed
    (folder / "weights").chmod(0o600)
    assert identity.closed_path([folder], is_reached_by_path=False) == folder / "weights"


def made_up_v2(root: Path, controllers: str) -> Path:
    """A tree that looks like control groups of version 2 to whoever only reads and writes files."""
    (root / "cgroup.controllers").write_text(controllers)
    (root / "cgroup.subtree_control").write_text("")
    return root


def test_version_2_enables_controllers_and_sets_limits(tmp_path, monkeypatch):
    root = made_up_v2(tmp_path, "memory pids")
    monkeypatch.setattr(cgroups, "_own_group", lambda root: root)
    mkdir = Path.mkdir

    def with_files(self, *arguments, **settings):
        mkdir(self, *arguments, **settings)
        for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cgroup.procs"):
            (self / name).touch()

    monkeypatch.setattr(Path, "mkdir", with_files)
    group = cgroups.create(Limits(memory_bytes=1000, processes=7), root)
    assert group is not None
    assert group.version == 2
    assert (root / "cgroup.subtree_control").read_text() == "+memory +pids"
    (folder,) = group.folders
    texts = {name: (folder / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max")}
    assert texts == {"memory.max": "1000", "memory.swap.max": "0", "pids.max": "7"}
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.is_out_of_memory()


def test_no_control_groups_no_group(tmp_path):
    assert cgroups.create(Limits(memory_bytes=1000), tmp_path) is None
    made_up_v2(tmp_path, "")
    (tmp_path / "cgroup.subtree_control").unlink()
    (tmp_path / "cgroup.subtree_control").mkdir()
    assert cgroups.create(Limits(memory_bytes=1000), tmp_path) is None


def reachable_python() -> str | None:
    """Return a Python of this version that every user can start: this one, or the system's."""
    for path in (sys.executable, "/usr/bin/python3"):
        if identity.closed_path([Path(path).resolve()], is_reached_by_path=True) is None:
            version = subprocess.run([path, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True)
            if version.stdout.decode().strip() == str(sys.version_info[:2]):
                return path
    return None


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_as_an_ordinary_user(tmp_path):
    """With user namespaces instead of root's powers: at least what the machine allows, and it runs."""
    program = (
        "import json; from mergebench_core.evaluation.programs import *; "
        "found = programs_isolation(); (one,) = run_programs([Program(code='def f(x): return x + 1', "
        "entry_point='f', inputs=((1,),))]); print(json.dumps([found.level, found.mechanisms, one.values]))"
    )
    python = reachable_python()
    if python is None:
        pytest.skip("another user can reach no Python of this version")
    environment = {"TMPDIR": "/tmp", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    level, mechanisms, values = json.loads(done.stdout)
    assert level == (2 if "userns" in mechanisms else 1)
    assert values == [2]
