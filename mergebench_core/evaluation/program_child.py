"""The child that runs generated programs: on the standard library alone, one fork per program, in a sandbox.

From standard input it reads JSON documents, each after its length in 4 bytes (big-endian): the limits, then one
program at a time, so that a program's process holds no other program. It answers on standard output: a line
`ready`, then in order for each program a line `<status> <length>` followed by that many bytes. Status is
`answered`, `timeout`, `crashed` or `oversize`; only `answered` carries bytes, and these come from the program's
process as they are: the host checks them. `encode` and `decode` are the one format of values, used on both sides.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from mergebench_core.isolation import landlock, orphans
from mergebench_core.isolation.confinement import lower_limit

MAX_DEPTH = 50
MAX_OPEN_FILES = 16
READ_BYTES = 65_536
STRAGGLER_S = 1.0

_SEQUENCES: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}


def encode(value: object, depth: int = 0) -> list[Any]:
    """Encode a plain value as nested `[tag, content]` lists that JSON can carry without loss.

    The type counts exactly: a subclass of a plain type is refused, so none of its methods is ever called.

    Raises:
        ValueError: a type outside None, bool, int, float, complex, str, list, tuple, set, frozenset, dict, or
            nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    kind = type(value)
    if kind in _SEQUENCES:
        items: Any = value
        return [_SEQUENCES[kind], [encode(item, depth + 1) for item in items]]
    if kind is dict:
        pairs: Any = value
        return ["dict", [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in pairs.items()]]
    return _encode_scalar(value)


def _encode_scalar(value: object) -> list[Any]:
    if value is None or type(value) is bool or type(value) is str:
        return [type(value).__name__, value]
    if type(value) is int:
        return ["int", hex(value)]  # hexadecimal has no limit on the number of digits
    if type(value) is float:
        return ["float", value.hex()]
    if type(value) is complex:
        return ["complex", [value.real.hex(), value.imag.hex()]]
    raise ValueError("not a plain value")


def _exactly(kind: type) -> Callable[[Any], Any]:
    def check(content: object) -> object:
        if type(content) is not kind:
            raise ValueError(f"expected {kind.__name__}")
        return content

    return check


def _complex(parts: list[object]) -> complex:
    real, imaginary = parts
    return complex(float.fromhex(_exactly(str)(real)), float.fromhex(_exactly(str)(imaginary)))


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "NoneType": _exactly(type(None)),
    "bool": _exactly(bool),
    "str": _exactly(str),
    "int": lambda content: int(_exactly(str)(content), 16),
    "float": lambda content: float.fromhex(_exactly(str)(content)),
    "complex": lambda content: _complex(_exactly(list)(content)),
}
_COLLECTIONS: dict[str, Callable[[Any], Any]] = {name: kind for kind, name in _SEQUENCES.items()}


def decode(document: object, depth: int = 0) -> Any:
    """Rebuild the plain value that `encode` described.

    Raises:
        ValueError: the document is not what `encode` gives.
        TypeError: a set or dict of things that cannot be in one.
    """
    if depth > MAX_DEPTH or type(document) is not list or len(document) != 2:
        raise ValueError("not an encoded value")
    tag, content = document
    if type(tag) is not str:
        raise ValueError("not an encoded value")
    if tag in _SCALARS:
        return _SCALARS[tag](content)
    items = _exactly(list)(content)
    if tag in _COLLECTIONS:
        return _COLLECTIONS[tag]([decode(item, depth + 1) for item in items])
    if tag == "dict":
        return {decode(key, depth + 1): decode(value, depth + 1) for key, value in items}
    raise ValueError("unknown tag")


def main() -> None:
    """Run the programs of a job one after the other, and answer for each."""
    sys.argv[:] = [""]
    limits = read_document(0)
    ruleset = apart(limits["readable"])
    orphans.adopt()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with os.fdopen(os.dup(1), "wb") as reply:
        reply.write(b"ready\n")
        reply.flush()
        while (program := read_document(0)) is not None:
            status, answer = supervise(program, limits, ruleset)
            program = None
            reply.write(b"%s %d\n%s" % (status.encode(), len(answer), answer))
            reply.flush()


def read_document(descriptor: int) -> Any:
    """Read the next document and not a byte more; None at the end."""
    head = read_exactly(descriptor, 4)
    return json.loads(read_exactly(descriptor, int.from_bytes(head, "big"))) if head else None


def read_exactly(descriptor: int, count: int) -> bytes:
    """Read so many bytes, or fewer at the end."""
    data = bytearray()
    while len(data) < count and (part := os.read(descriptor, count - len(data))):
        data += part
    return bytes(data)


def supervise(program: dict[str, Any], limits: dict[str, Any], ruleset: int | None) -> tuple[str, bytes]:
    """Run one program in a fork of its own; return its status and the bytes of its answer."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confine(write_fd, limits, ruleset)
            run_program(program, write_fd)
        finally:
            os._exit(1)  # never return into the supervisor's code
    os.close(write_fd)
    try:
        return collect(read_fd, limits)
    finally:
        os.close(read_fd)
        end_process(pid)


def collect(read_fd: int, limits: dict[str, Any]) -> tuple[str, bytes]:
    """Read the answer until the program's side is closed, the time is over, or it is too long."""
    deadline = time.monotonic() + limits["time_s"]
    answer = bytearray()
    while True:
        ready, _, _ = select.select([read_fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return "timeout", b""
        chunk = os.read(read_fd, READ_BYTES)
        if not chunk:
            return ("answered" if answer else "crashed"), bytes(answer)
        answer += chunk
        if len(answer) > limits["output_bytes"]:
            return "oversize", b""


def end_process(pid: int) -> None:
    """Kill the program, its process group and what it left behind, and reap them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + STRAGGLER_S
    while time.monotonic() < deadline and orphans.reap():
        for orphan in orphans.children():
            os.kill(orphan, signal.SIGKILL)


def confine(write_fd: int, limits: dict[str, Any], ruleset: int | None) -> None:
    """Cut this process off from the supervisor, its descriptors and terminal, and set its limits."""
    os.setsid()
    if ruleset is not None:
        landlock.enforce(ruleset)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, write_fd)
    os.closerange(write_fd + 1, 256)
    cpu_s = math.ceil(limits["time_s"]) + 1
    for name, value in (("CPU", cpu_s), ("FSIZE", 0), ("CORE", 0), ("NOFILE", MAX_OPEN_FILES), ("NPROC", 0)):
        lower_limit(getattr(resource, f"RLIMIT_{name}"), value)
    with contextlib.suppress(ValueError, OSError):  # macOS has the name but refuses to set it
        lower_limit(resource.RLIMIT_AS, limits["memory_bytes"])


def apart(readable: list[str]) -> int | None:
    """Return a ruleset by which a program can neither write anything nor signal, trace or read its judge."""
    if readable and sys.platform == "linux" and landlock.abi():
        return landlock.create_ruleset(readable, ["/dev/null"])
    return None


def run_program(program: dict[str, Any], write_fd: int) -> None:
    """Execute the code, call its function once per input, write the encoded values, or null on failure."""
    try:
        random.seed(0)  # an unseeded program gives the same answer every time
        module = type(sys)("program")
        sys.modules["program"] = module
        exec(compile(program["code"], "<program>", "exec"), module.__dict__)
        function = module.__dict__[program["entry_point"]]
        values = [encode(function(*decode(arguments))) for arguments in program["inputs"]]
        answer = json.dumps(values).encode()
    except BaseException:
        answer = b"null"
    left = memoryview(answer)
    while left:
        left = left[os.write(write_fd, left) :]
