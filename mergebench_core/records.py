"""RunRecord: what is kept of a run. Immutable, versioned JSON; derived numbers are computed, never stored.

A record is the truth about one job; the database is an index of records. Models here are pydantic because
records are read back from files that anybody may have edited.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mergebench_core.errors import StoreError

SCHEMA_VERSION: Literal[1] = 1

Score = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]{0,99}$")]
Hyperparameter = bool | int | float | str


class Part(BaseModel):
    """Base of every part of a record: frozen, closed, finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class TrackPart(Part):
    """The world the run took place in."""

    name: Name
    digest: Sha256


class MethodPart(Part):
    """The merging method, as the worker described it and the host digested it."""

    name: Name
    title: str
    paper_url: str
    version: str
    plugin: str
    """Where it came from: `<distribution> <version>` or the file's name."""
    source_sha256: Sha256
    needs: tuple[str, ...]
    determinism: Literal["exact", "platform", "tolerance"]
    is_stochastic: bool


class ConfigurationPart(Part):
    """One configuration of the search space and what its validation gave."""

    stage: Count
    config: dict[str, Hyperparameter]
    domains: tuple[str, ...]
    status: Literal["completed", "failed"]
    reason: str | None
    validation_scores: dict[str, Score]
    """Mean surrogate score by domain; empty if failed."""
    runtime_s: Seconds
    """Merging and scoring of this candidate."""


class TaskPart(Part):
    """Score of one task; the rows behind it lie in `items_file`."""

    purpose: Literal["test", "generalization"]
    domain: str | None
    metric: str
    score: Score
    num_items: Annotated[int, Field(ge=1)]
    items_file: str
    """Parquet beside the record: doc_id, prompt_sha256, output, score."""
    items_sha256: Sha256


class RuntimePart(Part):
    """The host's clocks, in seconds. Comparable only within one hardware class."""

    prepare_s: Seconds | None
    merge_s: Seconds | None
    algorithm_runtime_s: Seconds | None
    """Prepare and merge of the winner alone, without caches."""
    validation_runtime_s: Seconds | None
    """Everything else spent on choosing the configuration."""
    evaluation_runtime_s: Seconds


class MeterPart(Part):
    """The host's meters."""

    worker_peak_rss_bytes: Count | None
    gpu_peak_bytes: Count | None
    calibration_samples: dict[str, Count]
    """Samples read by domain, over the whole run."""
    validations: Annotated[float, Field(ge=0.0)]
    """Full validations used; one domain counts its share; failed attempts count."""


class IsolationPart(Part):
    """How foreign code was isolated, as probed inside before it started."""

    level: Annotated[int, Field(ge=0, le=3)]
    """3 namespaces with hard limits, 2 namespaces, 1 Landlock and seccomp alone, 0 a bare process."""
    backend: str
    mechanisms: tuple[str, ...]
    missing: tuple[str, ...]
    """What a higher level lacks here, and why."""
    has_own_user: bool
    has_devices: bool
    """Whether a GPU was passed through, whose driver is a wider door than anything else."""
    is_memory_hard: bool
    kernel: str
    limits: dict[str, Count]
    probe: dict[str, str]
    """What was tried inside, and `allowed` or `denied (<why>)`."""


class EnvironmentPart(Part):
    """Where and with what it ran."""

    hardware_class: str
    """CPU model, number of cores, GPU: times compare only within one."""
    platform: str
    python: str
    num_threads: Annotated[int, Field(ge=1)]
    packages: dict[str, str]
    commit: str | None
    is_dirty: bool | None
    isolation_level: Annotated[int, Field(ge=0, le=3)]
    """Of the method's worker; of programs that models write where no method ran."""
    isolation: IsolationPart | None = None
    """None in records from before isolation was recorded."""


class RunRecord(Part):
    """One finished job: a merge, a reference model, or an evaluation of somebody's checkpoint."""

    schema_version: Literal[1] = SCHEMA_VERSION
    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    kind: Literal["merge", "reference", "evaluation"]
    status: Literal["completed", "failed", "over_budget"]
    reason: str | None
    """Why it failed; None when completed."""
    track: TrackPart
    base_model: Name
    model: str | None
    """Reference runs: `base`, `specialist:<domain>`, `multitask`. Evaluations: a label. Merges: None."""
    method: MethodPart | None
    seed: Count
    config: dict[str, Hyperparameter] | None
    """The winning configuration."""
    configurations: tuple[ConfigurationPart, ...]
    input_sha256: dict[str, Sha256]
    """Weights digest of every model that went in, by reference name."""
    weights_sha256: Sha256 | None
    left_out: tuple[str, ...]
    """Tensors that stayed the base's under the method's policy."""
    tasks: dict[str, TaskPart]
    runtime: RuntimePart
    meters: MeterPart
    environment: EnvironmentPart
    created_at: str
    """UTC, ISO 8601."""

    def to_json(self) -> str:
        """Return the record as JSON text, `schema_version` first, without NaN."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def parse_record(text: str, source: Path) -> RunRecord:
    """Parse a record.

    Args:
        text: JSON text of one record.
        source: where it came from, for the message.

    Raises:
        StoreError: not JSON, another schema version, or fields that do not fit.
    """
    try:
        document: Any = json.loads(text)
        return RunRecord.model_validate(document)
    except (json.JSONDecodeError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        detail = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise StoreError(f"{source}: not a run record ({detail}); delete the file to run the job again") from None


def read_record(path: Path) -> RunRecord:
    """Read the record at `path`.

    Raises:
        StoreError: the file cannot be read or is not a record.
    """
    try:
        return parse_record(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None
