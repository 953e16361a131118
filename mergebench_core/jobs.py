"""Jobs: units of work with an id derived from their content, and the folder in which one is done and resumed.

<home>/runs/<job id>/record.json            written last, whole or not at all
                     configurations/*.json  one per finished configuration
                     merge.json  weights/   the winner
                     tasks/*.json  items/*.parquet
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergebench_core.errors import StoreError
from mergebench_core.home import write_atomic
from mergebench_core.hyperparameters import Config
from mergebench_core.records import RunRecord, read_record

ENGINE_REVISION = 2
"""Raised by every change of the core that moves weights or scores: jobs of older revisions are other jobs."""


def job_id(subject: Mapping[str, Any]) -> str:
    """Return the id of a job that is fully described by `subject` (JSON values)."""
    text = json.dumps({**subject, "engine": ENGINE_REVISION}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class JobFolder:
    """Where one job is done. Everything in it appears whole or not at all, so that a killed job can resume."""

    home: Path
    job_id: str

    @property
    def path(self) -> Path:
        return self.home / "runs" / self.job_id

    @property
    def weights(self) -> Path:
        return self.path / "weights"

    @property
    def log_file(self) -> Path:
        return self.path / "worker.log"

    def completed_record(self) -> RunRecord | None:
        """Return the record if the job is completed; a failed or unreadable one does not count."""
        path = self.path / "record.json"
        if not path.is_file():
            return None
        try:
            record = read_record(path)
        except StoreError:
            return None
        return record if record.status == "completed" else None

    def write_record(self, record: RunRecord) -> None:
        """Write the record."""
        write_atomic(self.path / "record.json", record.to_json())

    @contextmanager
    def lock(self, progress: Callable[[str], None]) -> Iterator[None]:
        """Hold the job, after waiting for another process that is at it; a killed holder lets go."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(f"waiting for another process that runs job {self.job_id}")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def note(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return what was noted of a finished step, None if it was not finished."""
        path = self._note_path(kind, key)
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def write_note(self, kind: str, key: str, values: Mapping[str, Any]) -> None:
        """Note that a step is finished."""
        text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False)
        write_atomic(self._note_path(kind, key), text + "\n")

    def _note_path(self, kind: str, key: str) -> Path:
        return self.path / kind / f"{key}.json"


def configuration_key(stage: int, config: Config) -> str:
    """Return the name under which a configuration is noted."""
    text = json.dumps([stage, dict(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
