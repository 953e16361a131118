"""The header of a safetensors file, parsed strictly: 8-byte little-endian length, then JSON.

Format: https://github.com/huggingface/safetensors#format. Nothing of the file but its header is read here. What is
accepted here the library opens, and finds the same tensors; not the other way round.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergebench_core.errors import CheckpointError

MAX_HEADER_BYTES = 16 << 20
"""Room for more than 100,000 tensors in one file, and text that is parsed within seconds."""
MAX_NAME_CHARACTERS = 1000
MAX_DIMENSIONS = 64
"""What torch can hold."""
MAX_NUMEL = 1 << 62
FIELDS = {"dtype", "shape", "data_offsets"}
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
    file_bytes, prefix, text = _read(path)
    document = _parse(path, text)
    _check_metadata(path, document.pop("__metadata__", {}))
    data_start = len(prefix) + len(text)
    entries = [_entry(path, name, value, data_start) for name, value in document.items()]
    entries.sort(key=lambda entry: (entry.start, entry.num_bytes))
    _check_layout(path, entries, data_start, file_bytes)
    return Header(entries={entry.name: entry for entry in entries}, raw=prefix + text, file_bytes=file_bytes)


def open_file(path: Path) -> int:
    """Return the descriptor of a regular file, opened for reading; links are followed, a pipe is not waited for.

    Raises:
        CheckpointError: it cannot be opened, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path}: cannot be read (no regular file)")
    return descriptor


def strict_json(data: bytes) -> Any:
    """Parse JSON in UTF-8. Names are unique; a number that is no integer from 0 on comes as None.

    Raises:
        ValueError: it is something else.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=lambda text: int(text) if text[0] != "-" and len(text) < 20 else None,
            parse_float=lambda text: None,
            parse_constant=lambda text: None,
        )
    except RecursionError:
        raise ValueError("nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _bad(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}; save the model again with safetensors")


def _read(path: Path) -> tuple[int, bytes, bytes]:
    """Return the size of the file, the 8 bytes of the length, and the text of the header."""
    try:
        with os.fdopen(open_file(path), "rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            is_possible = len(prefix) == 8 and 2 <= length <= min(MAX_HEADER_BYTES, file_bytes - 8)
            text = file.read(length) if is_possible else b""
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if not is_possible or len(text) != length:
        raise _bad(path, "no safetensors file, or truncated")
    return file_bytes, prefix, text


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        document = strict_json(text)
    except ValueError as error:
        raise _bad(path, f"no safetensors file (its header is not JSON: {error})") from None
    if not isinstance(document, dict) or not text.startswith(b"{"):
        raise _bad(path, "no safetensors file (its header is no JSON object)")
    return document


def _check_metadata(path: Path, metadata: Any) -> None:
    """Metadata are texts by name; nobody reads them, but a merged model carries those of its base."""
    texts: list[Any] = [*metadata, *metadata.values()] if isinstance(metadata, dict) else [None]
    try:
        "\n".join(texts).encode()
    except (TypeError, UnicodeEncodeError):
        raise _bad(path, "its __metadata__ holds something else than texts by name") from None


def _entry(path: Path, name: str, value: Any, data_start: int) -> TensorEntry:
    label = f"tensor {name[:200]!r}"
    if len(name) > MAX_NAME_CHARACTERS or not name.replace("\n", "").isprintable():
        raise _bad(path, f"{label} has a name that cannot be shown")
    dtype, shape, start, end = _described(path, label, value)
    if dtype not in ITEM_BYTES:
        raise _bad(path, f"{label} has dtype {dtype[:20]!r}, which is not supported (a quantised model?)")
    if not all(type(size) is int and size < MAX_NUMEL for size in [*shape, start, end]):
        raise _bad(path, f"{label} has a shape or offset that is no non-negative integer")
    if len(shape) > MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) >= MAX_NUMEL:
        raise _bad(path, f"{label} has a shape that no tensor can have")
    num_bytes = math.prod(shape) * ITEM_BYTES[dtype]
    if num_bytes != end - start:
        raise _bad(path, f"{label} takes {end - start} bytes, which does not fit its shape and dtype")
    return TensorEntry(name=name, dtype=dtype, shape=tuple(shape), start=data_start + start, num_bytes=num_bytes)


def _described(path: Path, label: str, value: Any) -> tuple[str, list[Any], Any, Any]:
    """Return dtype, shape and both offsets; their numbers are not looked at."""
    if not isinstance(value, dict) or value.keys() != FIELDS:
        raise _bad(path, f"{label} is not described by dtype, shape and data_offsets alone")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise _bad(path, f"{label} has a dtype that is no text, which is not supported")
    if not isinstance(offsets, list) or len(offsets) != 2:
        raise _bad(path, f"{label} is not described by dtype, shape and two data_offsets")
    return dtype, shape if isinstance(shape, list) else [None], *offsets


def _check_layout(path: Path, entries: list[TensorEntry], data_start: int, file_bytes: int) -> None:
    position = data_start
    for entry in entries:
        if entry.start != position:
            raise _bad(path, f"tensor {entry.name[:200]!r} overlaps another or follows a hole")
        position += entry.num_bytes
    if position != file_bytes:
        raise _bad(path, f"truncated or too long: {file_bytes} bytes instead of {position}")
