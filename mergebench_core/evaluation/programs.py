"""Programs that models write, run apart from the grader: the child computes values, this side compares them.

The child gets code, entry point and inputs, never an expected value, so there is nothing to forge: whatever a
program prints, returns or overrides, this side decodes its answer to plain builtins or gives it no answer. A batch
shares one sandbox (the strongest that the machine gives); every program has a process of its own in it.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import select
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from mergebench_core.errors import MergebenchError
from mergebench_core.evaluation import program_child
from mergebench_core.evaluation.program_child import decode, encode
from mergebench_core.isolation.confinement import BOOTSTRAP
from mergebench_core.isolation.policy import (
    PACKAGE,
    PYTHON,
    PYTHON_FOLDERS,
    SYSTEM,
    SYSTEM_FILES,
    Limits,
    Policy,
    outermost,
)
from mergebench_core.isolation.sandbox import Sandbox, start
from mergebench_core.records import IsolationPart

MIB = 2**20
GRACE_S = 10.0
"""Silence beyond the time limit after which the child itself is given up."""
READ_BYTES = 65_536
HEADER_BYTES = 64
HEADER = re.compile(rb"(?P<status>answered|timeout|crashed|oversize) (?P<length>[0-9]{1,9})\n")
COMMAND = (
    str(PYTHON), "-P", "-s", "-S", "-B", "-X", "utf8", "-c", BOOTSTRAP.format(module="evaluation.program_child"),
    str(PACKAGE),
)  # fmt: skip
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""All that is passed. The seed fixes the order of sets from run to run; `-I` would ignore it."""
READABLE = outermost([*PYTHON_FOLDERS, PACKAGE / "isolation", PACKAGE / "evaluation" / "__init__.py"])
SHARED_BYTES = 256 * MIB
"""Memory of the sandbox beyond one program's: the child, files being read."""
MAX_PROCESSES = 32
MAX_FILES = 100
SIGNAL_BASE = 128
"""A sandbox tells the signal that ended the child by this plus its number."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One generated program and what it is called with."""

    code: str
    entry_point: str
    """Name of the function to call."""
    inputs: tuple[tuple[object, ...], ...]
    """Positional arguments of each call; plain builtins only."""


CONTROL = Program(code="def control():\n    return 1", entry_point="control", inputs=((),))
"""Answers wherever programs can be run at all."""


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """What one program may use, all its calls together."""

    time_s: float = 2.0
    """Wall clock."""
    memory_bytes: int = 256 * MIB
    """Address space of its process."""
    output_bytes: int = 64 * 1024
    """Encoded values of all calls."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one program."""

    status: Literal["completed", "failed", "timeout", "crashed"]
    """`failed`: it raised, has no such function, or returned something that is not plain or too long;
    `crashed`: its process ended without an answer."""
    values: tuple[Any, ...] = ()
    """Return value of each call, plain builtins of exact type; empty unless completed."""


class Launch(Protocol):
    """Starts a child somewhere, hands it the job and returns what it wrote."""

    def __call__(self, job: bytes, *, limits: ProgramLimits, max_bytes: int) -> bytes:
        """Return the child's output, cut at `max_bytes` or when it was silent for too long."""


def run_programs(
    programs: Sequence[Program], limits: ProgramLimits | None = None, launch: Launch | None = None
) -> list[Outcome]:
    """Run every program in a process of its own and return the outcomes in the same order.

    A program that takes the whole child down is `crashed`; the rest go on in a fresh child. If all are, a trivial
    program tells whether that is their doing.

    Raises:
        MergebenchError: the child cannot be started here, or not even the trivial program ends with an answer.
        ValueError: an input is not made of plain builtins.
    """
    limits, launch = limits or ProgramLimits(), launch or launch_child
    outcomes = run_all(programs, limits, launch)
    if programs and all(outcome.status == "crashed" for outcome in outcomes):
        (control,) = run_all([CONTROL], limits, launch)
        if control.status == "crashed":
            raise MergebenchError(
                "programs cannot be run: not even a trivial one ends with an answer; "
                "check this Python and the machine's limits on processes and memory"
            )
    return outcomes


def run_all(programs: Sequence[Program], limits: ProgramLimits, launch: Launch) -> list[Outcome]:
    """Run every program, in as many children as it takes."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(programs):
        batch = programs[len(outcomes) :]
        max_bytes = len(batch) * (limits.output_bytes + HEADER_BYTES)
        output = launch(encode_job(batch, limits), limits=limits, max_bytes=max_bytes)
        answered = read_answers(output, batch)
        outcomes += answered if len(answered) == len(batch) else [*answered, Outcome(status="crashed")]
    return outcomes


def encode_job(programs: Sequence[Program], limits: ProgramLimits) -> bytes:
    """Return the child's job: its limits, then the programs, each document after its length."""
    files = [path for path in SYSTEM_FILES if path != "/proc/self"]  # it would be the child's, not the program's
    readable = [*SYSTEM, *files, *map(str, READABLE)]
    documents: list[dict[str, Any]] = [asdict(limits) | {"readable": readable}]
    documents += [
        {
            "code": program.code,
            "entry_point": program.entry_point,
            "inputs": [encode(arguments) for arguments in program.inputs],
        }
        for program in programs
    ]
    texts = [json.dumps(document).encode() for document in documents]
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


def read_answers(output: bytes, programs: Sequence[Program]) -> list[Outcome]:
    """Read the child's output; shorter than `programs` if the child went down on the way."""
    stream = io.BytesIO(output)
    if stream.readline() != b"ready\n":
        raise MergebenchError("programs cannot be run: the child process did not start; check this Python")
    outcomes: list[Outcome] = []
    for program in programs:
        header = HEADER.fullmatch(stream.readline(HEADER_BYTES))
        if header is None:
            break
        answer = stream.read(int(header["length"]))
        if len(answer) < int(header["length"]):
            break
        outcomes.append(read_outcome(header["status"].decode(), answer, len(program.inputs)))
    return outcomes


def read_outcome(status: str, answer: bytes, num_calls: int) -> Outcome:
    """Turn what a program's process wrote into an outcome; anything out of form is `failed`."""
    if status == "timeout":
        return Outcome(status="timeout")
    if status == "crashed":
        return Outcome(status="crashed")
    try:
        values = tuple(decode(document) for document in json.loads(answer))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return Outcome(status="failed")
    if status != "answered" or len(values) != num_calls:
        return Outcome(status="failed")
    return Outcome(status="completed", values=values)


def launch_child(job: bytes, *, limits: ProgramLimits, max_bytes: int) -> bytes:
    """Run the child in a sandbox that shows it the standard library and an empty folder.

    Raises:
        MergebenchError: it stopped with an error of its own, or no sandbox as strong as demanded can be made.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mergebench-") as folder,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(job)
        stdin.seek(0)
        sandbox = start_child(Path(folder), limits, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr)
        with sandbox.process as process:
            try:
                output = read_output(process, limits.time_s + GRACE_S, max_bytes)
            finally:
                sandbox.stop()
        stderr.seek(0)
        if 0 < process.returncode < SIGNAL_BASE:
            raise MergebenchError(f"programs cannot be run: {last_line(stderr.read())}; check this Python")
    return output


def start_child(folder: Path, limits: ProgramLimits, **streams: Any) -> Sandbox:
    """Start the child in its sandbox."""
    policy = Policy(
        readable=(*READABLE, Path(program_child.__file__)),
        writable=folder,
        listable=(PACKAGE,),
        limits=Limits(
            memory_bytes=limits.memory_bytes + SHARED_BYTES,
            processes=MAX_PROCESSES,
            files=MAX_FILES,
            rlimits={"FSIZE": MIB},
        ),
    )
    return start(COMMAND, policy, ENVIRONMENT, **streams)


@functools.cache
def programs_isolation() -> IsolationPart:
    """Return how programs are isolated on this machine.

    Raises:
        IsolationError: no sandbox as strong as the user demands can be made.
    """
    with tempfile.TemporaryDirectory(prefix="mergebench-") as folder:
        sandbox = start_child(Path(folder), ProgramLimits())
        sandbox.stop()
        return sandbox.isolation


def read_output(process: subprocess.Popen[bytes], idle_s: float, max_bytes: int) -> bytes:
    """Collect standard output until its end, `max_bytes`, or `idle_s` seconds of silence."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    output = bytearray()
    while len(output) < max_bytes and select.select([descriptor], [], [], idle_s)[0]:
        chunk = os.read(descriptor, READ_BYTES)
        if not chunk:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            break
        output += chunk
    return bytes(output)


def last_line(text: bytes) -> str:
    """Return the last line of a traceback."""
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
