"""From a folder of the released scripts to a self-reported record: all that was said, nothing guessed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mergebench_core.errors import InputError, StoreError, unknown_name
from mergebench_core.home import write_atomic
from mergebench_core.imports.files import ReleasedFile, base_of, method_of, read_folder
from mergebench_core.imports.mapping import (
    BASES,
    CODE_EVAL,
    GENERAL_TASKS,
    LM_EVAL,
    RELEASED_TASKS,
    ReleasedTask,
    mapping_sha256,
)
from mergebench_core.records import Hyperparameter, ImportedRecord, read_any_record
from mergebench_core.store import append_record, record_path

NOT_RUN = "the released scripts do not run general tasks"
DECODING_KEYS = (
    "do_sample", "temperature", "top_k", "top_p", "n_samples", "max_length_generation", "precision", "seed",
)  # fmt: skip
Files = Mapping[str, ReleasedFile]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A record of results from elsewhere."""

    record: ImportedRecord
    path: Path
    """Where the record lies."""
    is_new: bool
    """False if the same was imported before; then nothing was changed."""


def import_folder(
    folder: Path,
    *,
    home: Path,
    base: str | None = None,
    method: str | None = None,
    config: Mapping[str, Hyperparameter] | None = None,
) -> Imported:
    """Read a folder of the released scripts, and keep it as a self-reported record in `home`.

    Args:
        folder: holds some of lm_eval.json, code_eval.json and safety_eval.json.
        home: where state lives.
        base: name of the base model; found in the files if they name it.
        method: name of the method; found in the files where their paths name it without doubt.
        config: the method's hyper-parameters, if they are known.

    Raises:
        InputError: damaged files, scores outside [0, 1], or an unknown base or method.
        StoreError: the home cannot be written.
    """
    record = record_of(folder, base=base, method=method, config=config)
    path = record_path(home, record.job_id)
    before = _read_before(path)
    is_new = before is None or before.model_copy(update={"created_at": record.created_at}) != record
    if is_new:
        try:
            write_atomic(path, record.to_json())
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror}); choose another home") from None
    kept = record if is_new or before is None else before
    append_record(home, kept)
    return Imported(record=kept, path=path, is_new=is_new)


def record_of(
    folder: Path, *, base: str | None, method: str | None, config: Mapping[str, Hyperparameter] | None
) -> ImportedRecord:
    """Return what the folder says as a record, without keeping it.

    Raises:
        InputError: as `import_folder`.
    """
    files = read_folder(folder)
    paths = {name: path for name, file in files.items() if (path := file.model_path()) is not None}
    tasks, missing = _tasks(files)
    if not tasks:
        raise InputError(f"{folder}: none of its results is a task of the suite; give the scripts' output folder")
    named = {
        "base_model": _base(folder, base, paths),
        "method": method or _method(folder, paths.values()),
        "config": None if config is None else dict(config),
        "mapping_sha256": mapping_sha256(),
        "sources": {name: file.sha256 for name, file in files.items()},
    }
    found = {
        **named,
        **_settings(files),
        "job_id": hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16],
        "kind": "import",
        "model_path": next(iter(paths.values()), None),
        "tasks": tasks,
        "unknown_keys": _unknown_keys(files),
        "missing_tasks": missing | dict.fromkeys(GENERAL_TASKS, NOT_RUN),
        "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    try:
        return ImportedRecord.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{folder}: {place}: {first['msg']} (got {first['input']!r:.60}); mend it") from None


def _read_before(path: Path) -> ImportedRecord | None:
    try:
        found = read_any_record(path)
    except StoreError:
        return None
    return found if isinstance(found, ImportedRecord) else None


def _base(folder: Path, given: str | None, paths: Mapping[str, str]) -> str:
    """Return the base model, which the files may name and must not contradict."""
    if given is not None and given not in BASES:
        raise unknown_name("base", given, BASES, "Imports are of the paper's base models.")
    named = {name: base for name, path in paths.items() if (base := base_of(path)) is not None}
    bases = set(named.values()) | ({given} if given else set())
    if len(bases) > 1:
        said = ", ".join(f"{name} names {base}" for name, base in named.items())
        raise InputError(f"{folder}: {said}{f', --base is {given}' if given else ''}; import one model at a time")
    if not bases:
        raise InputError(f"{folder}: no file names the base model; say it with --base ({', '.join(BASES)})")
    return bases.pop()


def _method(folder: Path, paths: Iterable[str]) -> str:
    methods = {method for path in paths if (method := method_of(path)) is not None}
    if len(methods) != 1:
        found = (
            f"the files name {' and '.join(sorted(methods))}" if methods else "no file names the method clearly"
        )
        raise InputError(f"{folder}: {found}; say it with --method")
    return methods.pop()


def _tasks(files: Files) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the tasks that have a score, and why the others have none."""
    tasks: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for task in RELEASED_TASKS:
        if task.file not in files:
            missing[task.task] = f"no {task.file}"
            continue
        found = _numbers(files[task.file], task)
        absent = [name for name in task.names if _score_key(found, task, name) is None]
        if absent:
            missing[task.task] = f"{task.file} has no {', '.join(f'{name}/{task.metric}' for name in absent)}"
        else:
            tasks[task.task] = _task(files[task.file], task, found)
    return tasks, missing


def _numbers(file: ReleasedFile, task: ReleasedTask) -> dict[str, float]:
    """Return the numbers of a task by `name/key`.

    Raises:
        InputError: one is no number in [0, 1].
    """
    found: dict[str, float] = {}
    for name, key, value in file.results():
        if not (task.has_name(name) and task.has_key(key)):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{file.path}: {name}/{key} is {value!r:.40}; a score lies between 0 and 1")
        found[f"{name}/{key}"] = float(value)
    return found


def _score_key(found: Mapping[str, float], task: ReleasedTask, name: str) -> str | None:
    """Return the key whose number is the score of one part: the refusal rate if it is there."""
    keys = (key for key in (task.refusal_key, task.metric) if key is not None)
    return next((key for key in keys if f"{name}/{key}" in found), None)


def _task(file: ReleasedFile, task: ReleasedTask, found: dict[str, float]) -> dict[str, Any]:
    keys = {name: _score_key(found, task, name) or task.metric for name in task.names}
    key = keys[task.names[0]]  # tasks of several parts have no refusal key
    is_refusal = key == task.refusal_key
    values = [found[f"{name}/{key}"] for name, key in keys.items()]
    is_turned = is_refusal or task.is_lower_better
    scores = [1.0 - value if is_turned else value for value in values]
    num_items, limit_note = _counts(file, task)
    notes = [None if is_refusal else task.note, limit_note]
    names = f" over {', '.join(task.names)}" if len(task.names) > 1 else ""
    _check_direction(file, task)
    return {
        "purpose": "test",
        "domain": task.domain,
        "metric": f"{'1 - ' if is_turned else ''}{'mean of ' if names else ''}{key}{names}",
        "score": math.fsum(scores) / len(scores),
        "num_items": num_items,
        "other_metrics": found,
        "notes": tuple(note for note in notes if note),
    }


def _check_direction(file: ReleasedFile, task: ReleasedTask) -> None:
    for name in task.names:
        directions = file.mapping("higher_is_better").get(name) if file.path.name == LM_EVAL else None
        if isinstance(directions, dict) and directions.get(task.metric.partition(",")[0]) is False:
            raise InputError(f"{file.path}: {name} says that lower is better; another task bears that name there")


def _counts(file: ReleasedFile, task: ReleasedTask) -> tuple[int | None, str | None]:
    """Return the items behind a score, where lm-eval counts them, and a note if they were not all."""
    counts = file.mapping("n-samples") if file.path.name == LM_EVAL else {}
    found = [count for name, count in counts.items() if task.has_name(name) and isinstance(count, dict)]
    effective, original = (_total(found, key) for key in ("effective", "original"))
    is_part = effective is not None and original is not None and effective < original
    return effective, f"scored on {effective} of {original} items" if is_part else None


def _total(counts: list[dict[str, Any]], key: str) -> int | None:
    numbers = [count.get(key) for count in counts]
    whole = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
    return sum(whole) if whole and len(whole) == len(numbers) else None


def _unknown_keys(files: Files) -> list[str]:
    return [
        f"{file}: {name}/{key}"
        for file, content in files.items()
        for name, key, _ in content.results()
        if not any(task.file == file and task.has_name(name) and task.has_key(key) for task in RELEASED_TASKS)
    ]


def _settings(files: Files) -> dict[str, Any]:
    """Return what the files say about how they were made."""
    document: Mapping[str, Any] = files[LM_EVAL].document if LM_EVAL in files else {}
    information = str(document.get("pretty_env_info") or "")
    versions = {
        "lm_eval": document.get("lm_eval_version"),
        "transformers": document.get("transformers_version"),
        "torch": _after("PyTorch version: ", information),
        "python": _after("Python version: ", information),
    }
    template = "none" if "chat_template" in document and document["chat_template"] is None else None
    code = files[CODE_EVAL].mapping("config") if CODE_EVAL in files else {}
    return {
        "versions": {name: version for name, version in versions.items() if version is not None},
        "engine": document.get("model_source"),
        "chat_template": template or document.get("chat_template_sha"),
        "decoding": {key: code[key] for key in DECODING_KEYS if code.get(key) is not None},
    }


def _after(label: str, text: str) -> str | None:
    found = re.search(rf"^{re.escape(label)}(\S+)", text, re.MULTILINE)
    return found.group(1) if found else None
