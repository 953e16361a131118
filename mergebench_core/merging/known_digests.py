"""Digests of models that were read whole before, by the state of their files: later merges need not read again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mergebench_core.checkpoints.checkpoint import INDEX
from mergebench_core.home import home_folder, write_atomic

SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again within one tick of its clock."""


def file_state(path: Path) -> list[Any]:
    """Return what changes when a file is written, replaced or renamed: name, size and times."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


class KnownDigests:
    """Weights digests of finite models under the home folder, one file per model folder. Without a home: none."""

    def __init__(self) -> None:
        self._folder = home_folder() / "digests"

    def find(self, model: Path) -> str | None:
        """Return the digest of a model none of whose files has changed since it was read."""
        try:
            known = json.loads(self._file(model).read_text(encoding="utf-8"))
            return str(known["weights_sha256"]) if known["files"] == weights_state(model) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def note(self, model: Path, state: list[Any], started_ns: int, weights_sha256: str) -> None:
        """Keep the digest of a model that was in `state` when its reading started, unless it has changed since."""
        newest = max((time_ns for _, _, *times in state for time_ns in times), default=0)
        try:
            if state == weights_state(model) and newest + SETTLED_NS < started_ns:
                document = {"model": str(model), "files": state, "weights_sha256": weights_sha256}
                write_atomic(self._file(model), json.dumps(document))
        except OSError:
            return  # it only saves time

    def _file(self, model: Path) -> Path:
        return self._folder / f"{hashlib.sha256(str(model).encode()).hexdigest()[:32]}.json"


def weights_state(model: Path) -> list[Any]:
    """Return the state of the files that hold a model's weights."""
    return [file_state(path) for path in sorted([*model.glob("*.safetensors"), *model.glob(INDEX)])]
