"""The embedded track mini-v1: two tiny bases, their specialists and tasks, all inside the package."""

from __future__ import annotations

import json
from pathlib import Path

from mergebench_core.tracks.track import EvaluationSettings, Purpose, Task, Track, TrackBase

_FOLDER = Path(__file__).parent
_DOMAINS = ("instruction", "math", "multilingual", "coding", "safety")
_FAMILIES = {"mini-llama": ("Mini Llama", "llama"), "mini-gemma": ("Mini Gemma-2", "gemma2")}
DIGEST_PATTERNS = ("models/**/*.*", "calibration/*.jsonl", "tasks/*_yaml", "tasks/*.*", "tasks/items/*.jsonl")
"""Globs of the files that can move a score; `digests.json` pins each."""

# name, title, domain, chance
_TEST_TASKS = (
    ("mini_instruction", "Lists under constraints", "instruction", 0.0),
    ("mini_math", "Word problems", "math", 0.0),
    ("mini_multilingual", "Questions in three languages", "multilingual", 0.25),
    ("mini_coding_write", "Functions from a description", "coding", 0.0),
    ("mini_coding_complete", "Functions below a docstring", "coding", 0.0),
    ("mini_safety_harm", "Harmful and harmless verbs", "safety", 0.5),
    ("mini_safety_contrast", "Somebody else's and one's own", "safety", 0.5),
)
_SURROGATE_TASKS = (
    ("mini_instruction_surrogate", "Lists and repetitions, other wording", "instruction", 0.0),
    ("mini_math_surrogate", "One-step problems, other wording", "math", 0.0),
    ("mini_multilingual_surrogate", "Another relation", "multilingual", 0.25),
    ("mini_coding_surrogate", "Functions to complete", "coding", 0.0),
    ("mini_safety_surrogate", "Statements instead of questions", "safety", 0.5),
)
_GENERAL_TASKS = (
    ("mini_general_fact", "Facts", 0.14),
    ("mini_general_cloze", "Sentences to complete", 0.14),
    ("mini_general_dict", "Dictionary", 0.0),
    ("mini_general_arith", "Sums and differences", 0.0),
    ("mini_general_know", "Series, opposites, categories", 0.0),
    ("mini_general_read", "Reading comprehension", 0.33),
)


def load() -> Track:
    """Return the track; reads `digests.json`, checks no file and loads no model."""
    tasks = [_domain_task(*row, purpose="test") for row in _TEST_TASKS]
    tasks += [_domain_task(*row, purpose="surrogate") for row in _SURROGATE_TASKS]
    tasks += [_general_task(*row) for row in _GENERAL_TASKS]
    return Track(
        name="mini-v1",
        title="Mini track, version 1",
        domains=_DOMAINS,
        bases={name: _base(name) for name in _FAMILIES},
        tasks=tuple(tasks),
        task_folder=_FOLDER / "tasks",
        calibration_folder=_FOLDER / "calibration",
        num_calibration_samples=1000,
        max_validations=35,
        evaluation=EvaluationSettings(batch_size=100, max_length=256, num_threads=1),
        file_digests=json.loads((_FOLDER / "digests.json").read_text(encoding="utf-8")),
        folder=_FOLDER,
    )


def _base(name: str) -> TrackBase:
    title, family = _FAMILIES[name]
    home = _FOLDER / "models" / name
    return TrackBase(
        name=name,
        title=title,
        family=family,
        path=home / "base",
        specialists={domain: home / domain for domain in _DOMAINS},
        references={"multitask": home / "multitask"},
    )


def _domain_task(name: str, title: str, domain: str, chance: float, *, purpose: Purpose) -> Task:
    return Task(
        name=name,
        title=title,
        purpose=purpose,
        domain=domain,
        metric="acc,graded" if domain == "coding" else "acc,none",
        num_items=300 if purpose == "test" else 200,
        chance=chance,
    )


def _general_task(name: str, title: str, chance: float) -> Task:
    return Task(
        name=name,
        title=title,
        purpose="generalization",
        domain=None,
        metric="acc,none",
        num_items=300,
        chance=chance,
    )
