"""The header of a safetensors file, parsed strictly: 8-byte little-endian length, then JSON.

Format: https://github.com/huggingface/safetensors#format. Nothing of the file but its header is read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergebench_core.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies in a file."""

    name: str
    dtype: str
    """safetensors name: F32, F16, BF16, ..."""
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the beginning of the file."""
    num_bytes: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a safetensors file says it holds."""

    entries: Mapping[str, TensorEntry]
    """By name, in the order of the data."""
    raw: bytes
    """Length and JSON as they stand in the file."""
    file_bytes: int


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        CheckpointError: not a safetensors file, truncated, or tensors that overlap, leave holes, have an
            unknown dtype, or a size that does not fit their shape.
    """
    try:
        with path.open("rb") as file:
            file_bytes = path.stat().st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, file_bytes - 8):
                raise _bad(path, "no safetensors file, or truncated")
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    document = _parse(path, text)
    document.pop("__metadata__", None)
    entries = [_entry(path, name, value, 8 + length) for name, value in document.items()]
    entries.sort(key=lambda entry: (entry.start, entry.num_bytes))
    _check_layout(path, entries, 8 + length, file_bytes)
    return Header(entries={entry.name: entry for entry in entries}, raw=prefix + text, file_bytes=file_bytes)


def _bad(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}; save the model again with safetensors")


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise _bad(path, "a name stands twice in the header")
        return dict(pairs)

    try:
        document = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise _bad(path, "no safetensors file (its header is not JSON)") from None
    if not isinstance(document, dict):
        raise _bad(path, "no safetensors file (its header is no JSON object)")
    return document


def _entry(path: Path, name: str, value: Any, data_start: int) -> TensorEntry:
    try:
        dtype, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _bad(path, f"tensor '{name}' is not described by dtype, shape and data_offsets") from None
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _bad(path, f"tensor '{name}' has dtype {dtype!r}, which is not supported (a quantised model?)")
    sizes = [*shape, start, end] if isinstance(shape, list) else [None]
    if not all(type(size) is int and 0 <= size < 2**62 for size in sizes):
        raise _bad(path, f"tensor '{name}' has a shape or offset that is no non-negative integer")
    entry = TensorEntry(
        name=name, dtype=dtype, shape=tuple(shape), start=data_start + start, num_bytes=end - start
    )
    if entry.numel * ITEM_BYTES[dtype] != entry.num_bytes:
        raise _bad(path, f"tensor '{name}' takes {entry.num_bytes} bytes, which does not fit its shape and dtype")
    return entry


def _check_layout(path: Path, entries: list[TensorEntry], data_start: int, file_bytes: int) -> None:
    position = data_start
    for entry in entries:
        if entry.start != position:
            raise _bad(path, f"tensor '{entry.name}' overlaps another or follows a hole")
        position += entry.num_bytes
    if position != file_bytes:
        raise _bad(path, f"truncated or too long: {file_bytes} bytes instead of {position}")
