"""Training sets from the Hub, as prompts and completions, counted against the paper."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mergebench_core.errors import InputError
from mergebench_core.hub import Progress, problem_of
from mergebench_core.training.datasets import Row, TrainingDataset, TrainingExample

if TYPE_CHECKING:
    from datasets import Dataset

HOURS_FOR_DATA = 3
"""How long other processes wait for the first one to fetch and adapt; ten minutes are usual, and too short."""


@dataclass(frozen=True, kw_only=True)
class LoadedDataset:
    """One training set as it came."""

    source: TrainingDataset
    revision: str | None
    """Commit of the repository; None if the Hub could not be asked and the cache answered."""
    examples: Dataset
    """Columns `prompt` and `completion`."""
    num_rows: int
    """Rows of the split."""
    num_selected: int
    """Rows that the paper's count is of."""

    @property
    def difference(self) -> str | None:
        """Where this is not what the paper counts, in words; None where it is."""
        parts = []
        if not self.source.agrees_with_paper(self.num_selected):
            parts.append(f"{self.num_selected:,} rows where the paper counts {self.source.paper_count:,}")
        if len(self.examples) != self.num_selected:
            parts.append(f"{len(self.examples):,} of {self.num_selected:,} rows can be trained on")
        return f"{self.source.title}: {'; '.join(parts)}; {self.source.reading}" if parts else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for `training.json`."""
        source = self.source
        return {
            "name": source.name,
            "repo": source.repo,
            "config": source.config,
            "split": source.split,
            "revision": self.revision,
            "licence": source.licence,
            "is_gated": source.is_gated,
            "num_rows": self.num_rows,
            "num_selected": self.num_selected,
            "num_examples": len(self.examples),
            "paper_count": source.paper_count,
            "difference": self.difference,
            "reading": source.reading,
        }


def load_training_set(source: TrainingDataset, revision: str | None, progress: Progress) -> LoadedDataset:
    """Load one training set through the local cache; a difference from the paper is told as progress.

    `revision` is the commit that an interrupted training began with; None for the latest one. Under
    `accelerate launch` the first process works and the others read what it cached.

    Raises:
        InputError: no such repository, no right to it, no network, other columns, or nothing to train on.
    """
    from accelerate import PartialState  # type: ignore[import-untyped]

    progress(f"loading {source.title} ({source.repo})")
    with PartialState(timeout=timedelta(hours=HOURS_FOR_DATA)).main_process_first():
        revision = revision or _commit(source.repo)
        raw = _raw(source, revision)
        try:
            selected = raw.filter(source.is_selected)
            adapted = selected.map(
                _adapt, fn_kwargs={"example": source.example}, remove_columns=selected.column_names
            )
            examples = adapted.filter(_is_example).select_columns(["prompt", "completion"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"dataset {source.repo}: its rows are not as expected ({type(error).__name__}: {error}); "
                f"its columns are {', '.join(raw.column_names)}"
            ) from None
    if not len(examples):
        raise InputError(f"dataset {source.repo}: none of its {len(raw):,} rows can be trained on")
    loaded = LoadedDataset(
        source=source, revision=revision, examples=examples, num_rows=len(raw), num_selected=len(selected)
    )
    if loaded.difference:
        progress(f"note: {loaded.difference}")
    return loaded


def _raw(source: TrainingDataset, revision: str | None) -> Dataset:
    import datasets

    try:
        return datasets.load_dataset(
            source.repo, source.config, split=source.split, revision=revision, **dict(source.reader)
        )
    except Exception as error:  # the library raises what its readers, the Hub's client and the network raise
        raise InputError(f"dataset {source.repo}: {problem_of(error)}") from None


def _commit(repo: str) -> str | None:
    """Return the commit that the Hub's default branch is at; None without the Hub, where a cache may still do."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(repo).sha
    except Exception:  # whatever is wrong, loading says so in its own words
        return None


def _adapt(row: Row, example: Callable[[Row], TrainingExample | None]) -> TrainingExample:
    return example(row) or {"prompt": "", "completion": ""}


def _is_example(row: Row) -> bool:
    return bool(row["prompt"])


def mix(parts: Sequence[LoadedDataset], seed: int) -> Dataset:
    """Concatenate training sets in their order and shuffle them with the seed."""
    from datasets import concatenate_datasets

    return concatenate_datasets([part.examples for part in parts]).shuffle(seed=seed)


def dataset_sha256(data: Dataset) -> str:
    """Return the digest of all examples in their order; each text is preceded by its length."""
    digest = hashlib.sha256()
    for batch in data.iter(batch_size=1000):
        for pair in zip(batch["prompt"], batch["completion"], strict=True):
            for text in pair:
                content = text.encode()
                digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
