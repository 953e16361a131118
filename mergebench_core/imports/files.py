"""Reading the files of the released scripts: what they hold is refused, reported or passed on, never repaired."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mergebench_core.errors import InputError
from mergebench_core.imports.mapping import ALGORITHMS, BASES, FILES, LM_EVAL

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 8


@dataclass(frozen=True, kw_only=True)
class ReleasedFile:
    """One file of a folder with results."""

    path: Path
    sha256: str
    document: Mapping[str, Any]

    def results(self) -> Iterator[tuple[str, str, Any]]:
        """Yield name of a task there, key and value of every result; `/` stands between nested keys."""
        if self.path.name == LM_EVAL:
            self._check_groups()
            tasks = {**self.mapping("groups"), **self.mapping("results")}
        else:
            tasks = {name: found for name, found in self.document.items() if name != "config"}
        for name, found in tasks.items():
            yield from ((name, key, value) for key, value in _flat(found) if not _is_label(key))

    def _check_groups(self) -> None:
        """Raise InputError if a group has one number among the groups and another among the results."""
        results = self.mapping("results")
        for name, found in self.mapping("groups").items():
            told = dict(_flat(results.get(name, {})))
            for key, value in _flat(found):
                if told.get(key, value) != value:
                    raise InputError(
                        f"{self.path}: {name}/{key} is {value!r:.40} in 'groups' and {told[key]!r:.40} in "
                        "'results'; give the file as the scripts wrote it"
                    )

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return the object under `key`; empty if there is none.

        Raises:
            InputError: there is something else under it.
        """
        found = self.document.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise InputError(f"{self.path}: '{key}' is no object; give the folder as the scripts wrote it")
        return found

    def model_path(self) -> str | None:
        """Return where the merged model lay when it was scored."""
        config = self.mapping("config")
        arguments = dict(part.partition("=")[::2] for part in str(config.get("model_args", "")).split(","))
        named = self.document.get("model_name") if self.path.name == LM_EVAL else config.get("model")
        found = named or arguments.get("pretrained")
        return found if isinstance(found, str) and found else None


def read_folder(folder: Path) -> dict[str, ReleasedFile]:
    """Return the files of the released scripts that lie in `folder`, by name.

    Raises:
        InputError: no such folder, none of the files, or one that is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with {', '.join(FILES)} or some of them")
    found = {name: read_file(folder / name) for name in FILES if (folder / name).is_file()}
    if not found:
        raise InputError(f"{folder}: holds none of {', '.join(FILES)}; give the output folder of the scripts")
    return found


def read_file(path: Path) -> ReleasedFile:
    """Read one file.

    Raises:
        InputError: it cannot be read, is too large, no JSON object, or says NaN or one key twice.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB; results are small, without samples")
        content = path.read_bytes()
        document = json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
        json.dumps(document, ensure_ascii=False).encode()  # a lone surrogate can be written, and never printed
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); mend it or leave it out") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error}); take it from its source again or leave it out") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: holds no JSON object; give the file as the scripts wrote it")
    return ReleasedFile(path=path, sha256=hashlib.sha256(content).hexdigest(), document=document)


def base_of(model_path: str) -> str | None:
    """Return the base model that a path such as `merged_models/Llama-3.2-3B_merged/...` names."""
    names = (part.removesuffix("_merged").lower() for part in PurePosixPath(model_path).parts)
    return next((name for name in names if name in BASES), None)


def method_of(model_path: str) -> str | None:
    """Return the method that a path of the released scripts names without doubt."""
    for part in PurePosixPath(model_path).parts:
        for start, method in ALGORITHMS.items():
            if part == start or part.startswith(f"{start}_"):
                return method
    return None


def _flat(found: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if not isinstance(found, dict) or depth > MAX_DEPTH:
        yield prefix, found
        return
    for key, value in found.items():
        yield from _flat(value, f"{prefix}/{key}" if prefix else key, depth + 1)


def _is_label(key: str) -> bool:
    """Whether a key of lm-eval names a task or gives a standard error, which is no result."""
    return key in ("alias", " ") or key.partition(",")[0].endswith("_stderr")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no score")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key in found if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"'{twice}' stands there twice")
    return found
