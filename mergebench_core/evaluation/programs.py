"""Programs that models write, run apart from the grader: the child computes values, this side compares them.

The child gets code, entry point and inputs, never an expected value, so there is nothing to forge: whatever a
program prints, returns or overrides, this side decodes its answer to plain builtins or gives it no answer.

Not stopped here: reading files, the network, attacks on the child by a program of the same user, and, for the
superuser, the limit on processes. A stronger launcher closes these; everything else stays.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from mergebench_core.errors import MergebenchError
from mergebench_core.evaluation import program_child
from mergebench_core.evaluation.program_child import decode, encode

MIB = 2**20
GRACE_S = 10.0
"""Silence beyond the time limit after which the child itself is given up."""
READ_BYTES = 65_536
HEADER_BYTES = 64
HEADER = re.compile(rb"(?P<status>answered|timeout|crashed|oversize) (?P<length>[0-9]{1,9})\n")
COMMAND = (sys.executable, "-P", "-s", "-S", "-X", "utf8", str(Path(program_child.__file__)))
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""All that is passed. The seed fixes the order of sets from run to run; `-I` would ignore it."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One generated program and what it is called with."""

    code: str
    entry_point: str
    """Name of the function to call."""
    inputs: tuple[tuple[object, ...], ...]
    """Positional arguments of each call; plain builtins only."""


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

    def __call__(self, job: bytes, *, idle_s: float, max_bytes: int) -> bytes:
        """Return the child's output, cut at `max_bytes` or when it was silent for `idle_s` seconds."""


def run_programs(
    programs: Sequence[Program], limits: ProgramLimits | None = None, launch: Launch | None = None
) -> list[Outcome]:
    """Run every program in a process of its own and return the outcomes in the same order.

    A program that takes the whole child down is `crashed`; the rest go on in a fresh child.

    Raises:
        MergebenchError: the child cannot be started here.
        ValueError: an input is not made of plain builtins.
    """
    limits, launch = limits or ProgramLimits(), launch or launch_child
    outcomes: list[Outcome] = []
    while len(outcomes) < len(programs):
        batch = programs[len(outcomes) :]
        max_bytes = len(batch) * (limits.output_bytes + HEADER_BYTES)
        output = launch(encode_job(batch, limits), idle_s=limits.time_s + GRACE_S, max_bytes=max_bytes)
        answered = read_answers(output, batch)
        outcomes += answered if len(answered) == len(batch) else [*answered, Outcome(status="crashed")]
    return outcomes


def encode_job(programs: Sequence[Program], limits: ProgramLimits) -> bytes:
    """Return the child's job as JSON."""
    documents = [
        {
            "code": program.code,
            "entry_point": program.entry_point,
            "inputs": [encode(arguments) for arguments in program.inputs],
        }
        for program in programs
    ]
    return json.dumps({"limits": asdict(limits), "programs": documents}).encode()


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


def launch_child(job: bytes, *, idle_s: float, max_bytes: int) -> bytes:
    """Run the child as a plain process of this user: empty folder, cleared environment, own session.

    Raises:
        MergebenchError: it stopped with an error of its own.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mergebench-") as folder,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(job)
        stdin.seek(0)
        process = subprocess.Popen(
            COMMAND, cwd=folder, env=ENVIRONMENT, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
        with process:
            try:
                output = read_output(process, idle_s, max_bytes)
            finally:
                end_group(process)
        stderr.seek(0)
        if process.returncode > 0:
            raise MergebenchError(f"programs cannot be run: {last_line(stderr.read())}; check this Python")
    return output


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


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and its process group; harmless if it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(text: bytes) -> str:
    """Return the last line of a traceback."""
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
