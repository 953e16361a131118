"""Generated programs: values cross exactly; no trick earns a program a value that it did not compute."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import math
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergebench_core.errors import MergebenchError
from mergebench_core.evaluation import programs as module
from mergebench_core.evaluation.program_child import MAX_DEPTH, decode, encode
from mergebench_core.evaluation.programs import (
    Outcome,
    Program,
    ProgramLimits,
    encode_job,
    launch_child,
    read_answers,
    run_programs,
)
from mergebench_core.isolation.policy import PYTHON

LIMITS = ProgramLimits(time_s=10.0)
QUICK = ProgramLimits(time_s=0.5)
"""For programs that never end."""


def run_one(code: str, *arguments: object, limits: ProgramLimits = LIMITS) -> Outcome:
    (outcome,) = run_programs([Program(code=code, entry_point="f", inputs=(arguments,))], limits)
    return outcome


def test_values_come_back_in_order_of_inputs_and_programs() -> None:
    double = Program(code="def f(x):\n    return x * 2", entry_point="f", inputs=((1,), ("ab",), ([0],)))
    add = Program(code="def g(a, b):\n    return a + b", entry_point="g", inputs=((1, 2),))
    assert run_programs([double, add]) == [
        Outcome(status="completed", values=(2, "abab", [0, 0])),
        Outcome(status="completed", values=(3,)),
    ]


def test_no_programs_need_no_child() -> None:
    def refuse(job: bytes, *, limits: ProgramLimits, max_bytes: int) -> bytes:
        raise AssertionError("launched")

    assert run_programs([], launch=refuse) == []


def test_large_integers_and_special_floats_survive() -> None:
    outcome = run_one("def f():\n    return [10 ** 6000, -0.0, float('inf'), float('nan'), '\\ud800']")
    big, zero, infinity, nan, surrogate = outcome.values[0]
    assert (big, str(zero), infinity, surrogate) == (10**6000, "-0.0", math.inf, "\ud800")
    assert math.isnan(nan)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(plain)
def test_encoding_is_exact(value: object) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert repr(back) == repr(value)


def test_sets_are_encoded() -> None:
    assert decode(encode({1, 2})) == {1, 2}
    assert decode(encode(frozenset("ab"))) == frozenset("ab")


class NumberChild(int):
    """An int by inheritance only."""


@pytest.mark.parametrize("value", [NumberChild(3), object(), b"x", [[NumberChild(3)]], {1: object()}])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="plain"):
        encode(value)


def test_depth_is_limited() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(ValueError, match="deeper"):
        encode(value)


@pytest.mark.parametrize(
    "document",
    [3, [], ["int"], ["int", 3], ["int", "x"], ["bool", 1], ["what", []], ["list", 3], [["list"], []]],
)
def test_decode_refuses_what_encode_never_gives(document: object) -> None:
    with pytest.raises(ValueError):
        decode(document)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("def f(:", "failed"),
        ("def g():\n    return 1", "failed"),
        ("def f():\n    raise ValueError", "failed"),
        ("def f():\n    raise SystemExit(0)", "failed"),
        ("f = 3", "failed"),
        ("def f():\n    return f", "failed"),
        ("def f():\n    return f()", "failed"),
        ("def f():\n    return 'x' * 100_000", "failed"),
        ("def f():\n    return bytearray(2 ** 30)", "failed"),
        ("def f():\n    while True: pass", "timeout"),
        ("import time\ndef f():\n    time.sleep(60)", "timeout"),
        ("import os\ndef f():\n    os._exit(0)", "crashed"),
        ("import os\ndef f():\n    os.kill(os.getpid(), 9)", "crashed"),
        ("import os, time\nos.closerange(0, 256)\ntime.sleep(60)", "crashed"),
    ],
)
def test_programs_that_give_no_answer(code: str, status: str) -> None:
    limits = QUICK if status == "timeout" else LIMITS
    assert run_one(code, limits=limits) == Outcome(status=status)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "code",
    [
        "class Yes:\n    __eq__ = lambda s, o: True\n    __hash__ = None\ndef f():\n    return Yes()",
        "class Yes(int):\n    __eq__ = lambda s, o: True\n    __hash__ = None\ndef f():\n    return Yes(4)",
        "class L(list):\n    __iter__ = lambda s: iter([1])\ndef f():\n    return L()",
        "import os\nos.write(1, b'answered 4\\nnull')\nos._exit(0)",
        "print('ready')\nprint('answered 17')\nprint('[[\"int\", \"0x2a\"]]')\nraise SystemExit",
        "import os\ndef f():\n    os.fork()\n    return 42",
        "import os\nfor d in range(3, 256):\n    try:\n        os.write(d, b'[')\n    except OSError:\n"
        "        pass\ndef f():\n    return 42",
        "import os\nfor d in range(3, 256):\n    try:\n        os.write(d, b'[1' * 9000)\n    except OSError:\n"
        "        pass\nos._exit(0)",
        "def f():\n    value = []\n    value.append(value)\n    return value",
    ],
)
def test_forgeries_complete_nothing(code: str) -> None:
    assert run_one(code).status != "completed"


CHEATS = {
    "a file through io": "import io\ndef f():\n    return io.open('/etc/passwd').read()",
    "a file through posix": "import posix\ndef f():\n    return posix.open('/etc/passwd', 0)",
    "a command": "import posix\ndef f():\n    return 1 if posix.system('true') == 0 else 1 / 0",
    "a child": "import os\ndef f():\n    pid = os.fork()\n    return 1",
    "a connection": "import socket\ndef f():\n    return str(socket.socket(socket.AF_INET, socket.SOCK_STREAM))",
    "a datagram": "import socket\ndef f():\n    return str(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))",
    "a signal to its judge": "import os, posix\ndef f():\n    return posix.kill(os.getppid(), 0)",
    "its judge's memory": "import os\ndef f():\n    return open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "its judge's streams": "import os\ndef f():\n    return os.listdir(f'/proc/{os.getppid()}/fd')",
    "this package": f"def f():\n    return open({module.__file__!r}).read()[:10]",
    "new limits": "import resource\ndef f():\n    return resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))",
    "a namespace": "import ctypes\ndef f():\n    return 1 // (ctypes.CDLL(None).unshare(0x10000000) == 0)",
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_a_program_reaches_for(cheat: str) -> None:
    if module.programs_isolation().level < 1:
        pytest.skip("this machine gives no sandbox")
    assert run_one(CHEATS[cheat]).status == "failed"


def test_what_a_program_patches_stays_in_its_process() -> None:
    vandal = Program(
        code="import builtins, json, sys\nbuiltins.len = builtins.hex = None\njson.dumps = lambda v: '[]'\n"
        "sys._getframe(2).f_globals['encode'] = lambda v: ['int', '0x2a']\ndef f():\n    return 1",
        entry_point="f",
        inputs=((),),
    )
    honest = Program(code="def f():\n    return len('abc')", entry_point="f", inputs=((),))
    assert run_programs([vandal, honest], LIMITS)[1] == Outcome(status="completed", values=(3,))


def test_standard_output_does_not_disturb() -> None:
    assert run_one("def f():\n    print('x' * 10 ** 6)\n    return 1").values == (1,)


def test_a_mutated_result_is_the_value_at_its_call() -> None:
    code = "kept = []\ndef f(x):\n    kept.append(x)\n    return kept"
    (outcome,) = run_programs([Program(code=code, entry_point="f", inputs=((1,), (2,)))])
    assert outcome.values == ([1], [1, 2])


def test_a_program_that_kills_the_child_does_not_take_the_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "start", functools.partial(module.start, ceiling=0))
    killer = Program(code="import os\nos.kill(os.getppid(), 9)", entry_point="f", inputs=((),))
    honest = Program(code="def f():\n    return 1", entry_point="f", inputs=((),))
    outcomes = run_programs([honest, killer, honest, killer, honest], LIMITS)
    assert [outcome.status for outcome in outcomes[::2]] == ["completed"] * 3
    assert {outcome.status for outcome in outcomes[1::2]} <= {"failed", "crashed"}


def test_a_child_that_is_stopped_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.5)
    monkeypatch.setattr(module, "COMMAND", (str(PYTHON), "-c", "import os; os.kill(os.getpid(), 19)"))
    with pytest.raises(MergebenchError, match="did not start"):
        run_one("def f():\n    return 1", limits=QUICK)


def test_files_cannot_be_written(tmp_path: Path) -> None:
    target = tmp_path / "mark"
    code = f"def f():\n    open({str(target)!r}, 'w').write('x' * 100000)\n    return 1"
    assert run_one(code).status == "failed"
    assert not target.exists() or target.stat().st_size == 0


def test_neither_environment_nor_arguments_reach_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    code = "import os, sys\ndef f():\n    return [set(os.environ), len(sys.argv)]"
    ((environment, num_arguments),) = run_one(code).values
    assert environment <= {"PYTHONHASHSEED", "LC_CTYPE", "PWD"}
    assert num_arguments == 1


def test_unseeded_programs_repeat_themselves() -> None:
    code = "import random\ndef f():\n    return [list({'a', 'b', 'c', 'd', 'e'}), random.random()]"
    assert run_one(code) == run_one(code)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_surviving_daemon_is_killed() -> None:
    name = f"mb{os.getpid() % 10**8}"
    code = (
        "import ctypes, os, time\ndef f():\n    if os.fork() == 0:\n        os.setsid()\n"
        f"        ctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)\n        os.closerange(0, 256)\n"
        "        time.sleep(600)\n    time.sleep(0.2)\n    return 1"
    )
    run_one(code)
    names = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            names.append((entry / "comm").read_text().strip())
    assert name not in names


def test_expected_values_are_no_part_of_the_job() -> None:
    assert {field.name for field in dataclasses.fields(Program)} == {"code", "entry_point", "inputs"}
    job = io.BytesIO(encode_job([Program(code="c", entry_point="f", inputs=((1,),))], LIMITS))
    documents = []
    while head := job.read(4):
        documents.append(json.loads(job.read(int.from_bytes(head, "big"))))
    assert [set(document) for document in documents] == [
        {"time_s", "memory_bytes", "output_bytes", "readable"},
        {"code", "entry_point", "inputs"},
    ]


@pytest.mark.parametrize(
    ("output", "statuses"),
    [
        (b"ready\n", []),
        (b"ready\nanswered 4\nnul", []),
        (b"ready\nanswered -1\n", []),
        (b"ready\nwonderful 1\nx", []),
        (b'ready\nanswered 17\n[["int", "0x2a"]]timeout 0\n', ["completed", "timeout"]),
        (b'ready\noversize 0\nanswered 33\n[["int", "0x1"], ["int", "0x1"]]  ', ["failed", "failed"]),
        (b"ready\nanswered 9\n" + b"[" * 9 + b"answered 3\n1e9", ["failed", "failed"]),
        (b"ready\nanswered 60000\n" + b"[" * 60000 + b"crashed 0\n", ["failed", "crashed"]),
        (b"ready\nanswered 25\n" + b'[["set", [["list", []]]]]answered 2\n[]', ["failed", "failed"]),
    ],
)
def test_the_host_reads_only_what_is_in_form(output: bytes, statuses: list[str]) -> None:
    two = [Program(code="", entry_point="f", inputs=((),))] * 2
    assert [outcome.status for outcome in read_answers(output, two)] == statuses


def test_a_child_that_does_not_start_is_our_failure_not_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND", (str(PYTHON), "-c", "raise OSError('no forks left')"))
    with pytest.raises(MergebenchError, match="no forks left"):
        run_one("def f():\n    return 1")


def test_where_no_program_can_run_it_is_an_error_and_no_outcome() -> None:
    def launch(job: bytes, *, limits: ProgramLimits, max_bytes: int) -> bytes:
        return b"ready\ncrashed 0\ncrashed 0\n"

    two = [Program(code="def f():\n    return 1", entry_point="f", inputs=((),))] * 2
    with pytest.raises(MergebenchError, match="not even a trivial one"):
        run_programs(two, launch=launch)


def test_programs_that_all_crash_by_themselves_are_outcomes() -> None:
    crash = Program(code="import os\nos._exit(0)", entry_point="f", inputs=((),))
    assert run_programs([crash, crash], LIMITS) == [Outcome(status="crashed")] * 2


def test_the_launcher_cuts_what_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND", (str(PYTHON), "-c", "while True: print('x' * 1000)"))
    assert 100_000 <= len(launch_child(b"", limits=ProgramLimits(), max_bytes=100_000)) < 200_000
