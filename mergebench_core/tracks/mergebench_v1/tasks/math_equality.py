"""Tells whether two mathematical answers are equal, by math-verify in a child process.

A child, because math-verify works on what a model wrote: `9^{9^{9^{9}}}` keeps it busy for ever, its own time
limits are signals that only the main thread gets, and they do not reach into a long computation in C. The child
has a limit on processor time per question, which does not depend on how busy the machine is, and one on memory;
the system ends it at the limit, and the answer counts as not equal.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from mergebench_core.errors import MergebenchError

_CPU_LIMIT_S = 5.0
_MEMORY_LIMIT_BYTES = 4 * 2**30
_NUM_DIGITS = 6
_MAX_LENGTH = 400
"""Longest answer that is compared by value; longer ones are only compared as texts."""


class EqualityChecker:
    """Asks one child after the other; may be called from any thread."""

    def __init__(self, cpu_limit_s: float = _CPU_LIMIT_S) -> None:
        self._cpu_limit_s = cpu_limit_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        atexit.register(self.close)

    def are_equal(self, gold: str, answer: str) -> bool:
        """Tell whether math-verify finds `answer` equal to `gold`; False where it does not end within its limits.

        Raises:
            MergebenchError: math-verify is not installed.
        """
        if max(len(gold), len(answer)) > _MAX_LENGTH:
            return False
        with self._lock:
            child = self._child or self._start()
            reply = self._ask(child, json.dumps([gold, answer]))
        return reply == "equal\n"

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _ask(self, child: subprocess.Popen[str], question: str) -> str:
        """Return the child's reply; a child that gave none, or whose reply was not awaited, is ended."""
        reply = ""
        try:
            with contextlib.suppress(BrokenPipeError):
                _write(child, question)
                reply = _read(child)
        finally:
            if not reply:
                self.close()
        return reply

    def _start(self) -> subprocess.Popen[str]:
        # Not -I: it would let the order of sets, and with it what sympy does, differ from run to run.
        child = subprocess.Popen(
            [sys.executable, "-P", "-s", __file__, str(self._cpu_limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        self._child = child
        if _read(child) != "ready\n":
            self.close()
            raise MergebenchError("scoring MATH needs math-verify; pip install 'mergebench[run]' brings it")
        return child


def _write(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


def _read(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline()


@cache
def shared_checker() -> EqualityChecker:
    """Return this process's checker; its child starts at the first question."""
    return EqualityChecker()


def _is_equal(gold: str, answer: str) -> bool:
    from math_verify import parse, verify

    parsed = [parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
    return bool(verify(parsed[0], parsed[1], float_rounding=_num_decimals(parsed[0]), timeout_seconds=None))


def _num_decimals(gold: Sequence[Any]) -> int:
    """Return to how many decimals numbers are compared: six, or six digits of the smallest number in `gold`."""
    sizes = [float(abs(number.evalf())) for expression in gold for number in _numbers(expression)]
    return max([_NUM_DIGITS, *(_NUM_DIGITS - 1 - math.floor(math.log10(size)) for size in sizes if 0 < size < 1)])


def _numbers(expression: Any) -> Iterator[Any]:
    """Yield the numbers that an expression, or a list of them, is made of."""
    if getattr(expression, "is_number", False):
        yield expression
    else:
        for part in getattr(expression, "args", ()):
            yield from _numbers(part)


def _reply(line: str) -> str:
    try:
        return "equal" if _is_equal(*json.loads(line)) else "different"
    except Exception:  # sympy raises anything on what models write
        return "different"


def _serve(cpu_limit_s: float) -> None:
    """Answer one JSON line after the other: the child's side."""
    logging.disable()
    _is_equal("1", "1")
    with contextlib.suppress(ValueError):  # a system that has no such limit, or a lower one already
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)  # its signal is not handled: the system ends the child
        reply = _reply(line)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(f"{reply}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
