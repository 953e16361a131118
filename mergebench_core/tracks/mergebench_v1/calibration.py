"""The calibration budget: which training rows a method may read, and how they become samples.

The released code (uiuctml/MergeBench, merging/taskloader.py) reads one subset of the training data per domain,
shuffles it with seed 42 and takes the first 1,000 rows; the same rows in the same order result here. Licences are
those of the training data, as in the paper's appendix B.3; the subsets' own cards were not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mergebench_core.errors import InputError
from mergebench_core.tracks.mergebench_v1.item_sets import HubSource, Item, Row
from mergebench_core.training.prompt_format import instruction_prompt

NUM_SAMPLES = 1000
SEED = 42


def draw(num_rows: int, num: int = NUM_SAMPLES, seed: int = SEED) -> list[int]:
    """Return the numbers of the rows that `datasets.Dataset.shuffle(seed).select(range(num))` takes, in its order.

    Raises:
        InputError: there are fewer than `num` rows.
    """
    if num_rows < num:
        raise InputError(f"calibration data: {num_rows} rows where {num} are drawn; fetch the data set again")
    import numpy

    return [int(row) for row in numpy.random.default_rng(seed).permutation(num_rows)[:num]]


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """Where the calibration samples of one domain come from."""

    domain: str
    source: HubSource
    adapt: Callable[..., list[Item]]
    """Takes all rows of the source, returns the samples `{"prompt", "completion"}` of the budget in the order
    drawn; a prompt ends where its completion begins. Too few rows, or a row without text, are an InputError."""


def _calibration_set(domain: str, prompt: str, completion: str, licence: str) -> CalibrationSet:
    repo = f"MergeBench/{domain}_val"

    def text(rows: Sequence[Row], number: int, column: str) -> str:
        value = rows[number].get(column)
        if not isinstance(value, str):
            raise InputError(f"{repo}: row {number} has no text in column '{column}'; the published data changed")
        return value

    def adapt(rows: Sequence[Row]) -> list[Item]:
        if len(rows) < NUM_SAMPLES:
            raise InputError(f"{repo}: {len(rows)} rows where {NUM_SAMPLES} are drawn; the published data changed")
        return [
            {
                "prompt": instruction_prompt(text(rows, number, prompt)),
                "completion": text(rows, number, completion),
            }
            for number in draw(len(rows))
        ]

    source = HubSource(repo=repo, split="train", columns=(prompt, completion), licence=licence)
    return CalibrationSet(domain=domain, source=source, adapt=adapt)


CALIBRATION: Mapping[str, CalibrationSet] = {
    found.domain: found
    for found in (
        _calibration_set("instruction", "instruction", "output", "ODC-By (TULU-3 persona IF)"),
        _calibration_set("math", "query", "response", "MIT (DART-Math)"),
        _calibration_set("multilingual", "inputs", "targets", "Apache-2.0 (Aya)"),
        _calibration_set("coding", "instruction", "response", "MIT (Magicoder)"),
        _calibration_set("safety", "prompt", "response", "ODC-By (WildGuardMix)"),
    )
}
