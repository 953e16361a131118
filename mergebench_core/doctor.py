"""Checks of an installation and its machine."""

from __future__ import annotations

import contextlib
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mergebench_core.environment import cpu_model, num_cores
from mergebench_core.errors import MergebenchError
from mergebench_core.evaluation.programs import programs_isolation
from mergebench_core.home import writable_home
from mergebench_core.isolation.level import DENIED_AT_1, MEANINGS, SAFE_LEVEL
from mergebench_core.isolation.probe import ALLOWED
from mergebench_core.tracks.digests import verify_files
from mergebench_core.tracks.registry import TRACK_NAMES, load_track
from mergebench_core.worker.catalog import load_catalog

EXTRAS = {
    "run": ("torch", "transformers", "lm-eval"),
    "board": ("gradio",),
    "train": ("trl",),
    "mergekit": ("mergekit",),
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    is_ok: bool
    found: str
    remedy: str | None = None
    is_required: bool = True


def check_all(home: Path | None = None) -> list[Check]:
    """Look at Python, packages, home, tracks, plugins and isolation."""
    return [
        Check(name="python", is_ok=sys.version_info >= (3, 11), found=platform.python_version()),
        Check(name="machine", is_ok=True, found=f"{cpu_model()}, {num_cores()} cores"),
        *(_check_extra(extra, packages) for extra, packages in EXTRAS.items()),
        _attempt("home", lambda: _describe_home(home)),
        *(_attempt(f"track {name}", _track_check(name)) for name in TRACK_NAMES),
        _attempt("plugins", lambda: f"{len(load_catalog())} methods"),
        _check_isolation(),
    ]


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, is_ok=True, found=look())
    except MergebenchError as error:
        return Check(name=name, is_ok=False, found="failed", remedy=str(error))


def _check_isolation() -> Check:
    """Make a sandbox as for programs and say what it was worth, and what would raise it."""
    try:
        found = programs_isolation()
    except MergebenchError as error:
        return Check(name="isolation", is_ok=False, found="failed", remedy=str(error))
    escapes = (
        [name for name in DENIED_AT_1 if found.probe.get(name, ALLOWED) == ALLOWED] if found.level == 0 else []
    )
    lacking = [*found.missing, *([f"not held back: {', '.join(escapes)}"] if escapes else [])]
    return Check(
        name="isolation",
        is_ok=found.level >= SAFE_LEVEL,
        found=f"level {found.level}: {MEANINGS[found.level]}",
        remedy="; ".join(lacking) or None,
        is_required=False,
    )


def _check_extra(extra: str, packages: tuple[str, ...]) -> Check:
    found: list[str] = []
    with contextlib.suppress(PackageNotFoundError):
        found = [f"{package} {version(package)}" for package in packages]
    return Check(
        name=f"extra '{extra}'",
        is_ok=bool(found),
        found=", ".join(found) or "not installed",
        remedy=None if found else f"pip install 'mergebench[{extra}]'",
        is_required=extra == "run",
    )


def _describe_home(home: Path | None) -> str:
    folder = writable_home(home)
    free = shutil.disk_usage(folder).free
    return f"{folder} ({free / 2**30:.0f} GiB free)"


def _track_check(name: str) -> Callable[[], str]:
    def look() -> str:
        track = load_track(name)
        verify_files(track)
        return f"{len(track.file_digests)} files as pinned, digest {track.digest[:12]}"

    return look
