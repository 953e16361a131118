"""The files beside a model's weights that move its answers: its tokenizer and chat template, and its settings."""

from __future__ import annotations

import json
from pathlib import Path

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


def _settings(path: Path) -> str:
    try:
        settings = json.loads(path.read_bytes()).items()
    except (ValueError, AttributeError):
        return file_digest(path)
    return json.dumps({name: value for name, value in settings if name not in IDLE_SETTINGS}, sort_keys=True)
