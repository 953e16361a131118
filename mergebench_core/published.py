"""Figures that the MergeBench paper printed (arXiv:2505.10833): shipped with the package, in a world of their own.

The paper gives means over domains and over general tasks, no scores per task; so these are no run records, and
nothing measured is ever divided by them or ranked with them. What the divisor of the generalization table is, the
paper does not say. `Overall` is kept as printed for checking; it is no base model and no row.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, computed_field

from mergebench_core.errors import StoreError
from mergebench_core.records import Name, Part
from mergebench_core.results import BoardRow

PUBLISHED_TRACK = "mergebench-paper"
PUBLISHED_WORLD = "MergeBench paper (published)"
PAPER_FILE = Path(__file__).parent / "tracks" / "mergebench_v1" / "published" / "mergebench_paper.json"

Printed = Annotated[str, Field(pattern=r"^\d{1,3}\.\d$")]
"""A number in percent as it stands in a table."""


class PublishedSource(Part):
    """Where figures were printed."""

    paper: str
    arxiv_id: Annotated[str, Field(pattern=r"^\d{4}\.\d{5}$")]
    published_on: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    performance_table: str
    generalization_table: str


class PublishedFigures(Part):
    """What the tables say of one method, as printed in percent and as fractions of 1."""

    printed_method: str
    method: Name
    """The same method's name here."""
    printed_performance: Printed
    printed_generalization: Printed

    @computed_field  # type: ignore[prop-decorator]
    @property
    def normalized_performance(self) -> float:
        """Mean over the domains, relative to the specialists; values above 1 occur."""
        return _fraction(self.printed_performance)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def normalized_generalization(self) -> float:
        """Mean over six general sets, presumably relative to the base model."""
        return _fraction(self.printed_generalization)


class PublishedOverall(PublishedFigures):
    """The printed mean over the eight bases; once it differs from the mean of the printed cells by rounding."""


class PublishedResult(PublishedFigures):
    """One cell of each table: a method on a base model."""

    schema_version: Literal[1]
    printed_base_model: str
    base_model: Name
    """The same base model's name here."""
    source: PublishedSource


class PublishedPaper(Part):
    """The shipped file."""

    source: PublishedSource
    results: tuple[PublishedResult, ...]
    overall: tuple[PublishedOverall, ...]
    sha256: str


@cache
def load_paper(path: Path = PAPER_FILE) -> PublishedPaper:
    """Return what the paper printed.

    Raises:
        StoreError: the file of the package is missing or was changed into something else.
    """
    try:
        content = path.read_bytes()
        document: dict[str, Any] = json.loads(content)
        shared = {"schema_version": document.pop("schema_version"), "source": document["source"]}
        results = [shared | row for row in document.pop("results")]
        found = {**document, "results": results, "sha256": hashlib.sha256(content).hexdigest()}
        return PublishedPaper.model_validate(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        detail = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else repr(error)
        raise StoreError(f"{path}: not the published figures ({detail}); install the package again") from None


def published_rows(*, base: str | None = None) -> list[BoardRow]:
    """Return the paper's figures as rows of a world of their own, per base the highest first; never ranked.

    Args:
        base: only this base model.
    """
    paper = load_paper()
    rows = [_row(result, paper.sha256) for result in paper.results if base in (None, result.base_model)]
    return sorted(rows, key=lambda row: (row.base_model, -(row.headline or 0.0), row.label))


def _row(result: PublishedResult, sha256: str) -> BoardRow:
    source = result.source
    tables = f"{source.performance_table}; {source.generalization_table}"
    return BoardRow(
        job_id=f"published-{result.method}-{result.base_model}",
        track=PUBLISHED_TRACK,
        track_digest=sha256,
        world=PUBLISHED_WORLD,
        tier="published",
        suite=None,
        protocol=None,
        judge=None,
        engine=None,
        base_model=result.base_model,
        models_sha256=None,
        base_label=result.base_model,
        kind="published",
        label=result.method,
        title=result.printed_method,
        variant="",
        plugin=None,
        status="completed",
        reason=f"printed in arXiv:{source.arxiv_id} ({tables}); not measured here",
        seed=None,
        is_ranked=False,
        headline=result.normalized_performance,
        task_first=None,
        is_reduced=False,
        removed=(),
        normalized={},
        raw={},
        generalization=result.normalized_generalization,
        raw_generalization=None,
        algorithm_runtime_s=None,
        validation_runtime_s=None,
        evaluation_runtime_s=None,
        worker_peak_rss_bytes=None,
        validations=None,
        config=None,
        weights_sha256=None,
        hardware_class=None,
        created_at=f"{source.published_on}T00:00:00Z",
    )


def _fraction(printed: str) -> float:
    return float(Decimal(printed) / 100)
