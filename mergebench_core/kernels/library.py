"""Building and loading the compiled kernels: once per machine, by the C compiler that it has, if it has one.

The result is cached by source, compiler and processor. Workers never build: they are told the file.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
VARIABLE = "MERGEBENCH_KERNELS"
"""Path of a built library; `0` for none. Unset: built when first needed."""
OPTIONS = (
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
)
"""No contraction into fused multiply-adds: it would change bytes between processors."""

POINTER, INT, LONG, FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float
SIGNATURES: dict[str, list[object]] = {
    "task_vector": [POINTER, LONG, POINTER],
    "kept_sum": [POINTER, LONG, POINTER, POINTER, INT, POINTER],
    "elected_mean": [POINTER, LONG, POINTER, POINTER],
    "random_sum": [POINTER, LONG, POINTER, LONG, INT, FLOAT, POINTER],
    "consensus_sum": [POINTER, LONG, POINTER, INT, INT, POINTER],
    "count_values": [POINTER, LONG, POINTER],
    "count_task_vectors": [POINTER, LONG, POINTER],
    "all_finite": [POINTER, INT, LONG],
    "apply_update": [POINTER, POINTER, FLOAT, LONG, POINTER],
}
"""All return an int32."""


@functools.cache
def kernels() -> ctypes.CDLL | None:
    """Return the loaded library, None where there is none. Calls release the interpreter's lock."""
    path = built_library()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
        for name, arguments in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = INT
    except (OSError, AttributeError):
        return None
    return library


def built_library() -> Path | None:
    """Return the library's file, built if need be; None without a working C compiler."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return Path(given) if Path(given).is_file() else None
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    try:
        return _build(compiler)
    except (OSError, subprocess.SubprocessError):
        return None


def _build(compiler: str) -> Path | None:
    from platformdirs import user_cache_path

    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=60).stdout
    key = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), version, " ".join(OPTIONS).encode(), _processor()]))
    target = user_cache_path("mergebench", appauthor=False) / "kernels" / f"{key.hexdigest()[:24]}.so"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        command = [compiler, *OPTIONS, str(SOURCE), "-o", str(made), "-lm"]
        subprocess.run(command, capture_output=True, check=True, timeout=120)
        made.replace(target)
    return target


def _processor() -> bytes:
    """Return what a library built for this processor may rely on."""
    try:
        found = re.search(r"^(?:flags|Features)\s*:.*$", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.M)
    except OSError:
        found = None
    return f"{platform.machine()} {found.group(0) if found else platform.processor()}".encode()
