"""RunRecord: what is kept of a run. Immutable, versioned JSON; derived numbers are computed, never stored.

A record is the truth about one job; the database is an index of records. Models here are pydantic because
records are read back from files that anybody may have edited. What was measured elsewhere is an ImportedRecord,
which has no place for clocks, meters and items that nobody here measured.
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
NumItems = Annotated[int, Field(ge=1, lt=2**32)]
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
    suite: Literal["full", "lite"] = "full"
    protocol: Literal["standard", "paper"] = "standard"
    """`paper` repeats the released choices, which tune on test items; it shares no ranking with `standard`."""
    judge: str | None = None
    """Name and revision of the judge that read the answers of safety tasks; None where no task has one."""
    engine: Literal["hf", "vllm"] = "hf"
    models_sha256: Sha256 | None = None
    """Digest of the commits of the base and its specialists; None for an embedded track, whose digest covers them.
    Results of other commits never meet."""
    revisions: dict[str, str] = {}
    """Commit of every repository that models and data came from; empty for an embedded track."""
    overlaps: dict[str, Count] = {}
    """What the audit of the data found: number of shared items by kind and pair of sets."""


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
    num_items: NumItems
    other_metrics: dict[str, float] = {}
    """Further metrics by name, such as the harm rate; never part of a domain's score."""
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
    """GPU memory of the worker and its children, as sampled from outside: with CUDA's own, about 0.5 GB for each
    process, and what allocators reserve. 0 is measured and unused; None: no GPU, or not measured."""
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


class ImportedTaskPart(Part):
    """Score of one task as somebody else's files give it; no rows behind it."""

    purpose: Literal["test", "generalization"]
    domain: str | None
    metric: str
    """How the score comes from the keys of the files."""
    score: Score
    """Oriented so that higher is better."""
    num_items: NumItems | None
    """None where the files do not say."""
    other_metrics: dict[str, Score] = {}
    """Every number of the files that belongs to the task, by key, as it stands there."""
    notes: tuple[str, ...] = ()
    """What must be known to read the score."""


class ImportedRecord(Part):
    """Results that were measured elsewhere and read from the output of the released MergeBench scripts."""

    schema_version: Literal[1] = SCHEMA_VERSION
    job_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """Follows from the files, the base model, the method, its configuration and the table of keys."""
    kind: Literal["import"]
    base_model: Name
    method: Name
    config: dict[str, Hyperparameter] | None
    """As given by whoever imported it; None if nothing was said."""
    model_path: str | None
    """Where the merged model lay, as the files say it."""
    mapping_sha256: Sha256
    """Digest of the table that turned keys into tasks."""
    sources: dict[str, Sha256]
    """Digest of each file that was read, by name."""
    versions: dict[str, str]
    """Versions that the files name: lm_eval, transformers, torch, python."""
    engine: Name | None
    """What ran the model for lm_eval, as lm_eval names it."""
    chat_template: str | None
    """`none`, or the sha256 of the template; None if the files do not say."""
    decoding: dict[str, Hyperparameter]
    """How programs were generated."""
    tasks: dict[str, ImportedTaskPart]
    unknown_keys: tuple[str, ...]
    """Results in the files that belong to no task here."""
    missing_tasks: dict[str, str]
    """Tasks of the suite without a score, and why."""
    created_at: str
    """When it was imported: UTC, ISO 8601."""

    def to_json(self) -> str:
        """Return the record as JSON text, `schema_version` first, without NaN."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


AnyRecord = RunRecord | ImportedRecord
"""What may lie in a job's folder."""


def parse_record(text: str, source: Path) -> RunRecord:
    """Parse the record of a run.

    Args:
        text: JSON text of one record.
        source: where it came from, for the message.

    Raises:
        StoreError: not JSON, another schema version, or fields that do not fit.
    """
    try:
        return RunRecord.model_validate(json.loads(text))
    except (json.JSONDecodeError, ValidationError) as error:
        raise _no_record(source, error) from None


def parse_any_record(text: str, source: Path) -> AnyRecord:
    """Parse the record of a run or of an import, by its `kind`.

    Raises:
        StoreError: not JSON, another schema version, or fields that do not fit.
    """
    try:
        document: Any = json.loads(text)
        is_import = isinstance(document, dict) and document.get("kind") == "import"
        return (ImportedRecord if is_import else RunRecord).model_validate(document)
    except (json.JSONDecodeError, ValidationError) as error:
        raise _no_record(source, error) from None


def _no_record(source: Path, error: json.JSONDecodeError | ValidationError) -> StoreError:
    first = error.errors()[0] if isinstance(error, ValidationError) else None
    detail = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
    return StoreError(f"{source}: not a run record ({detail}); delete the file to run the job again")


def read_record(path: Path) -> RunRecord:
    """Read the record of a run at `path`.

    Raises:
        StoreError: the file cannot be read or is not the record of a run.
    """
    return parse_record(_text(path), path)


def read_any_record(path: Path) -> AnyRecord:
    """Read the record of a run or of an import at `path`.

    Raises:
        StoreError: the file cannot be read or is not a record.
    """
    return parse_any_record(_text(path), path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from None
