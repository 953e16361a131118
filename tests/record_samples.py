"""Synthetic run records for tests: small, complete, and changed by keyword."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from mergebench_core.records import RunRecord

DOMAINS = ("instruction", "math", "multilingual", "coding", "safety")
TEST_TASKS = {
    "instruction": ("mini_instruction",),
    "math": ("mini_math",),
    "multilingual": ("mini_multilingual",),
    "coding": ("mini_coding", "mini_coding_docstring"),
    "safety": ("mini_safety", "mini_safety_contrast"),
}
GENERAL_TASKS = ("mini_general_fact", "mini_general_dict")
TRACK_DIGEST = "a" * 64
NUM_ITEMS = 300


def sha256(text: str) -> str:
    """Return a digest that is fixed by `text`."""
    return hashlib.sha256(text.encode()).hexdigest()


def task_parts(scores: Mapping[str, float], general: float | None) -> dict[str, Any]:
    """Return the record's tasks: every test task of a domain at its score, every general task at `general`."""
    tested = {task: (d, scores[d]) for d in scores for task in TEST_TASKS[d]}
    others = {task: (None, general) for task in GENERAL_TASKS if general is not None}
    return {
        task: {
            "purpose": "test" if domain else "generalization",
            "domain": domain,
            "metric": "acc,none",
            "score": score,
            "num_items": NUM_ITEMS,
            "items_file": f"{task}.parquet",
            "items_sha256": sha256(task),
        }
        for task, (domain, score) in {**tested, **others}.items()
    }


def method_part(name: str, source: str = "one") -> dict[str, Any]:
    """Return the description of a bundled-looking method."""
    return {
        "name": name,
        "title": name.replace("_", " ").title(),
        "paper_url": "https://arxiv.org/abs/2212.04089",
        "version": "1",
        "plugin": "mergebench 0.1.0",
        "source_sha256": sha256(name + source),
        "needs": ["validation"],
        "determinism": "exact",
        "is_stochastic": False,
    }


def sample_document(**changes: Any) -> dict[str, Any]:
    """Return a completed merge as a JSON document with `changes` laid over its top level."""
    identity = repr(sorted(changes.items(), key=lambda item: item[0]))
    document: dict[str, Any] = {
        "schema_version": 1,
        "job_id": sha256(identity)[:16],
        "kind": "merge",
        "status": "completed",
        "reason": None,
        "track": {"name": "mini-v1", "digest": TRACK_DIGEST},
        "base_model": "mini-llama",
        "model": None,
        "method": method_part("task_arithmetic"),
        "seed": 0,
        "config": {"scaling_coefficient": 0.4},
        "configurations": [
            {
                "stage": 0,
                "config": {"scaling_coefficient": coefficient},
                "domains": list(DOMAINS),
                "status": "completed",
                "reason": None,
                "validation_scores": dict.fromkeys(DOMAINS, 0.5),
                "runtime_s": 1.5,
            }
            for coefficient in (0.3, 0.4)
        ],
        "input_sha256": {"base": sha256("base")},
        "weights_sha256": sha256("weights" + identity),
        "left_out": ["model.embed_tokens.weight"],
        "tasks": task_parts(dict.fromkeys(DOMAINS, 0.6), 0.7),
        "runtime": {
            "prepare_s": 0.25,
            "merge_s": 0.75,
            "algorithm_runtime_s": 1.0,
            "validation_runtime_s": 12.5,
            "evaluation_runtime_s": 4.0,
        },
        "meters": {
            "worker_peak_rss_bytes": 300 * 2**20,
            "gpu_peak_bytes": None,
            "calibration_samples": {},
            "validations": 2.0,
        },
        "environment": {
            "hardware_class": "test CPU, 2 cores",
            "platform": "Linux",
            "python": "3.11.7",
            "num_threads": 1,
            "packages": {"torch": "2.13.0"},
            "commit": None,
            "is_dirty": None,
            "isolation_level": 0,
        },
        "created_at": "2026-01-01T00:00:00Z",
    }
    return {**document, **changes}


def sample_record(**changes: Any) -> RunRecord:
    """Return a completed merge with `changes` laid over its top level; another change is another job."""
    return RunRecord.model_validate(sample_document(**changes))


def merge_record(
    name: str, scores: Mapping[str, float] | float = 0.6, general: float = 0.7, **changes: Any
) -> RunRecord:
    """Return a completed merge by method `name` with these domain scores (one number: in every domain)."""
    by_domain = dict.fromkeys(DOMAINS, scores) if isinstance(scores, float) else scores
    changes = {"method": method_part(name), "tasks": task_parts(by_domain, general), **changes}
    return sample_record(**changes)


def failed_record(name: str, reason: str = "the update of layer 0 is not finite", **changes: Any) -> RunRecord:
    """Return a run that failed before it had weights."""
    empty = {"config": None, "weights_sha256": None, "tasks": {}, "configurations": []}
    runtime = dict.fromkeys(("prepare_s", "merge_s", "algorithm_runtime_s", "validation_runtime_s"))
    return sample_record(
        status="failed",
        reason=reason,
        method=method_part(name),
        runtime={**runtime, "evaluation_runtime_s": 0.0},
        **empty,
        **changes,
    )


def reference_record(model: str, scores: Mapping[str, float], general: float | None, **changes: Any) -> RunRecord:
    """Return the evaluation of a reference model: `base`, `specialist:<domain>` or `multitask`."""
    runtime = dict.fromkeys(("prepare_s", "merge_s", "algorithm_runtime_s", "validation_runtime_s"))
    meters = {
        "worker_peak_rss_bytes": None,
        "gpu_peak_bytes": None,
        "calibration_samples": {},
        "validations": 0.0,
    }
    document: dict[str, Any] = {
        "kind": "reference",
        "model": model,
        "method": None,
        "config": None,
        "configurations": [],
        "runtime": {**runtime, "evaluation_runtime_s": 4.0},
        "meters": meters,
        "left_out": [],
        "tasks": task_parts(scores, general),
    }
    return sample_record(**{**document, **changes})


def reference_records(base_model: str = "mini-llama", **changes: Any) -> list[RunRecord]:
    """Return base, five specialists (0.8 in their own domain, 0.2 elsewhere) and the multi-task model."""
    base = reference_record("base", dict.fromkeys(DOMAINS, 0.1), 0.9, base_model=base_model, **changes)
    specialists = [
        reference_record(
            f"specialist:{own}",
            {d: 0.8 if d == own else 0.2 for d in DOMAINS},
            0.6,
            base_model=base_model,
            **changes,
        )
        for own in DOMAINS
    ]
    multitask = reference_record("multitask", dict.fromkeys(DOMAINS, 0.8), 0.65, base_model=base_model, **changes)
    return [base, *specialists, multitask]
