"""What a method may ask for while it merges own models: the user's calibration samples, but no validation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mergebench_core.checkpoints.assembly import Assembly
from mergebench_core.errors import InputError, MergebenchError, unknown_name
from mergebench_core.hub import Progress

MAX_SAMPLE_BYTES = 16 << 10
"""Fifty samples go into one message of at most a MiB."""


@dataclass(frozen=True, kw_only=True)
class SampleFile:
    """A domain's calibration samples."""

    rows: list[dict[str, str]]
    sha256: str


def read_samples(path: Path) -> SampleFile:
    """Read rows {"prompt", "completion"}, one JSON object a line.

    Raises:
        InputError: no such file, or a line that is no such object.
    """
    try:
        data = path.read_bytes()
        lines = data.decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"samples {path}: cannot be read as UTF-8 text ({error}); give a .jsonl file") from None
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InputError(f'samples {path}: no rows; give one {{"prompt": ..., "completion": ...}} a line')
    return SampleFile(rows=rows, sha256=hashlib.sha256(data).hexdigest())


def _row(path: Path, number: int, line: str) -> dict[str, str]:
    try:
        found = json.loads(line)
        row = {"prompt": found["prompt"], "completion": found["completion"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        row = {}
    if not row or not all(isinstance(text, str) for text in row.values()):
        raise InputError(f'samples {path}, line {number}: give {{"prompt": "...", "completion": "..."}}')
    if len(json.dumps(row)) > MAX_SAMPLE_BYTES:
        raise InputError(f"samples {path}, line {number}: longer than {MAX_SAMPLE_BYTES >> 10} KiB; shorten it")
    return row


@dataclass(kw_only=True)
class MergeServices:
    """Answers the worker of a merge."""

    method: str
    samples_by_domain: Mapping[str, SampleFile]
    progress: Progress
    num_read: dict[str, int] = field(default_factory=dict)

    def samples(self, domain: str, start: int, count: int) -> list[dict[str, str]]:
        """Return samples of a domain, fewer at the end of its file."""
        if domain not in self.samples_by_domain:
            raise unknown_name("domain", domain, self.samples_by_domain, "calibration samples come by domain.")
        rows = self.samples_by_domain[domain].rows[max(start, 0) : max(start, 0) + max(count, 0)]
        if rows:
            self.num_read[domain] = max(self.num_read.get(domain, 0), start + len(rows))
        return rows

    def candidate(self, domains: list[str] | None) -> Assembly:
        """Refuse: there are no tasks."""
        raise self._no_validation()

    def validate(self) -> dict[str, float]:
        """Refuse: there are no tasks."""
        raise self._no_validation()

    def _no_validation(self) -> MergebenchError:
        return InputError(
            f"method '{self.method}' scores candidates while it merges, and a merge of own models has no tasks to "
            "score them on; choose another method, or measure it on a track with `mergebench run`"
        )

    def log(self, message: str) -> None:
        """Show a line of the method's."""
        self.progress(f"{self.method}: {' '.join(message.split())}")
