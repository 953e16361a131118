"""The calibration budget: training samples of each domain, read through a meter that refuses more."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mergebench_core.errors import BudgetError, InputError, unknown_name
from mergebench_core.tracks.track import Track


class CalibrationReader:
    """Hands out a track's calibration samples and counts the distinct ones."""

    def __init__(self, track: Track, state: Mapping[str, list[int]] | None = None) -> None:
        """Start with nothing read, or with what `state` of an interrupted run says."""
        self._track = track
        self._rows: dict[str, list[dict[str, str]]] = {}
        self._read = {domain: set(indices) for domain, indices in (state or {}).items()}

    def samples(self, domain: str, start: int, count: int) -> list[dict[str, str]]:
        """Return samples `start` to `start + count` of a domain, fewer at the end.

        Raises:
            InputError: no such domain, or a negative range.
            BudgetError: the range goes beyond the track's budget.
        """
        if domain not in self._track.domains:
            raise unknown_name("domain", domain, self._track.domains, "calibration samples come by domain.")
        if start < 0 or count < 0:
            raise InputError(f"calibration samples {start} to {start + count}: give a range from 0 on")
        budget = self._track.num_calibration_samples
        if start + count > budget:
            raise BudgetError(f"asked for more than {budget} calibration samples of domain '{domain}'")
        rows = self._load(domain)[start : start + count]
        self._read.setdefault(domain, set()).update(range(start, start + len(rows)))
        return rows

    def state(self) -> dict[str, list[int]]:
        """Return the indices of the samples read by domain, for going on later."""
        return {domain: sorted(indices) for domain, indices in sorted(self._read.items())}

    def num_read(self) -> dict[str, int]:
        """Return the number of distinct samples read by domain."""
        return {domain: len(indices) for domain, indices in sorted(self._read.items())}

    def _load(self, domain: str) -> list[dict[str, str]]:
        if domain not in self._rows:
            path = self._track.calibration_folder / f"{domain}.jsonl"
            lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would cut at U+2028 within a text
            self._rows[domain] = [json.loads(line) for line in lines if line]
        return self._rows[domain]
