"""The files beside a model's weights that move its answers: its tokenizer and chat template, and its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mergebench_core.checkpoints.writer import SIDE_FILES
from mergebench_core.tracks.digests import file_digest

TOKENIZER_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template*",
    "*.model", "*.tiktoken",
)  # fmt: skip
SETTINGS_FILES = ("config.json", "generation_config.json")
IDLE_SETTINGS = frozenset(
    {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
)
"""They say where a model comes from, how it is stored, and how fast it answers."""


def answers_by_files_of(folder: Path, base: Path) -> bool:
    """Return whether the model in `folder` would answer the same with the files of `base`.

    It has the same ones. Where it has none at all, neither tokenizer nor settings, the base's are meant.
    """
    return all(
        _agree(_contents(folder, kind), _contents(base, kind)) for kind in (TOKENIZER_FILES, SETTINGS_FILES)
    )


def _agree(own: dict[str, str], known: dict[str, str]) -> bool:
    """Compare contents by name; files of the base that no merged model gets are not asked for."""
    if not own:
        return True
    is_complete = all(name in own for name in known if name in SIDE_FILES)
    return is_complete and all(known.get(name) == content for name, content in own.items())


def _contents(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    """Return by name what moves answers in the files of these patterns."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {path.name: _settings(path) if path.name in SETTINGS_FILES else file_digest(path) for path in paths}


def with_tokenizer_of(base: Path, folder: Path, place: Path) -> Path:
    """Return a folder with a model's files and a tokenizer: its own if it has one, else links in empty `place`."""
    if any(folder.glob("tokenizer*")):
        return folder
    tokenizer = [path for pattern in TOKENIZER_FILES for path in base.glob(pattern)]
    own = [path for path in folder.iterdir() if path.is_file()]
    for path in {path.name: path for path in [*tokenizer, *own]}.values():
        (place / path.name).symlink_to(path.resolve())
    return place


def _settings(path: Path) -> str:
    """Return settings as transformers reads them, where it can: versions of it spell the same ones differently."""
    try:
        settings = _as_read(path) if path.name == "config.json" else json.loads(path.read_bytes())
        kept = {name: value for name, value in settings.items() if name not in IDLE_SETTINGS}
    except (ValueError, AttributeError, TypeError, OSError):
        return file_digest(path)
    return json.dumps(kept, sort_keys=True, default=str)


def _as_read(path: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    found: dict[str, Any] = AutoConfig.from_pretrained(path.parent).to_dict()
    return found
