"""The safetensors header is parsed strictly: what is malformed is refused in one line that names the file."""

from __future__ import annotations

import json

import pytest
import torch
from checkpoint_samples import write_raw
from safetensors.torch import save_file

from mergebench_core.checkpoints.header import read_header
from mergebench_core.errors import CheckpointError


def entry(begin: int, end: int, shape=None, dtype="F32") -> dict:
    return {
        "dtype": dtype,
        "shape": [(end - begin) // 4] if shape is None else shape,
        "data_offsets": [begin, end],
    }


MALFORMED = {
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "'b' overlaps another or follows a hole"),
    "hole": ({"a": entry(0, 4), "b": entry(8, 12)}, 12, "'b' overlaps another or follows a hole"),
    "not from zero": ({"a": entry(4, 8)}, 8, "'a' overlaps another or follows a hole"),
    "same place": ({"a": entry(0, 4), "b": entry(0, 4)}, 4, "overlaps"),
    "too short": ({"a": entry(0, 8)}, 7, "truncated or too long: "),
    "too long": ({"a": entry(0, 8)}, 9, "truncated or too long: "),
    "size": ({"a": entry(0, 8, [3])}, 8, "'a' takes 8 bytes, which does not fit"),
    "end before begin": ({"a": {"dtype": "F32", "shape": [0], "data_offsets": [4, 0]}}, 0, "does not fit"),
    "unknown dtype": ({"a": entry(0, 8, [8], "F8_E4M3")}, 8, "dtype 'F8_E4M3', which is not supported"),
    "dtype no string": ({"a": entry(0, 8, dtype=["F32"])}, 8, "not supported"),
    "negative dimension": ({"a": entry(0, 8, [-1, -2])}, 8, "no non-negative integer"),
    "negative offset": (
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        0,
        "no non-negative integer",
    ),
    "dimension a float": ({"a": entry(0, 8, [2.0])}, 8, "no non-negative integer"),
    "dimension a boolean": ({"a": entry(0, 4, [True])}, 4, "no non-negative integer"),
    "huge dimension": ({"a": entry(0, 8, [2**62, 0])}, 8, "no non-negative integer"),
    "shape no list": ({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, 8, "no non-negative integer"),
    "three offsets": ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, 8, "not described by"),
    "offsets missing": ({"a": {"dtype": "F32", "shape": [2]}}, 8, "not described by"),
    "entry a number": ({"a": 3}, 0, "not described by"),
    "entry a list": ({"a": [1]}, 0, "not described by"),
    "no object": ([1, 2], 0, "no JSON object"),
    "no JSON": (b"{nonsense", 0, "not JSON"),
    "no text": (b"\xff\xfe\xfa\xfb", 0, "not JSON"),
    "deep": (b"[" * 100_000, 0, "not JSON"),
    "duplicate tensor": (b'{"a":%b,"a":%b}' % (2 * (json.dumps(entry(0, 4)).encode(),)), 4, "stands twice"),
    "duplicate key": (b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4, "stands twice"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_header_is_refused(tmp_path, case):
    header, num_bytes, message = MALFORMED[case]
    path = write_raw(tmp_path / "bad.safetensors", header, bytes(num_bytes))
    with pytest.raises(CheckpointError) as error:
        read_header(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x02\0\0",
        (3).to_bytes(8, "little") + b"{}",
        (2**62).to_bytes(8, "little") + b"{}",
        b"PK\x03\x04" * 9,
    ],
)
def test_no_safetensors_at_all(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="no safetensors file, or truncated"):
        read_header(path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_header(path)


def test_entries_stand_in_data_order_whatever_the_order_of_the_json(tmp_path):
    pairs = {"__metadata__": {"format": "pt"}, "z": entry(0, 4), "empty": entry(4, 4, [0, 3]), "a": entry(4, 12)}
    document = {name: pairs[name] for name in ("a", "__metadata__", "empty", "z")}
    header = read_header(write_raw(tmp_path / "x", document, bytes(12)))
    assert list(header.entries) == ["z", "empty", "a"]
    assert header.entries["a"].start == len(header.raw) + 4
    assert [e.numel for e in header.entries.values()] == [1, 0, 2]


def test_agrees_with_the_library(tmp_path):
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros(5, dtype=torch.bfloat16),
        "c": torch.zeros((), dtype=torch.int8),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "x.safetensors")
    assert {n: (e.dtype, e.shape) for n, e in header.entries.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("BF16", (5,)),
        "c": ("I8", ()),
    }
    assert (tmp_path / "x.safetensors").read_bytes().startswith(header.raw)
