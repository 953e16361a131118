"""Where jobs run: local processes, side by side. A job is a command that prints its outcome."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from mergebench_core.errors import MergebenchError, RunError
from mergebench_core.workbench import Progress

ERROR_MARK = "mergebench: "
"""What the command line puts in front of an error."""


def run_commands(commands: Sequence[Sequence[str]], *, num_processes: int, progress: Progress) -> list[str]:
    """Run commands in processes of their own and return what each printed to stdout.

    Args:
        commands: program and arguments of each.
        num_processes: how many run at a time.
        progress: called with every line that any of them prints to stderr.

    Raises:
        MergebenchError: the first that failed, with its message and exit code, when all have ended.
    """
    running: list[subprocess.Popen[str]] = []

    def run(command: Sequence[str]) -> str:
        with _start(command) as process:
            running.append(process)
            return _follow(process, progress)

    with ThreadPoolExecutor(max_workers=num_processes) as pool:
        futures = [pool.submit(run, command) for command in commands]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                _end(process)
            raise


@contextmanager
def _start(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own: Ctrl-C is this process's business."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        with process:
            yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _follow(process: subprocess.Popen[str], progress: Progress) -> str:
    assert process.stderr is not None
    assert process.stdout is not None
    message = ""
    for line in process.stderr:
        if line.startswith(ERROR_MARK):
            message = line.removeprefix(ERROR_MARK).strip()
        else:
            progress(line.rstrip("\n"))
    output = process.stdout.read()
    if (code := process.wait()) != 0:
        error: MergebenchError = RunError(message or f"a job ended with exit code {code}")
        error.exit_code = code if code in (1, 2) else 1
        raise error
    return output
