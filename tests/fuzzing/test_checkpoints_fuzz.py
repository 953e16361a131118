"""Checkpoint files from anywhere: what is accepted is right by two other readers, what is refused is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import format_oracle
import pytest
import safetensors
from checkpoint_samples import write_raw
from format_oracle import Refused
from hypothesis import given
from hypothesis import strategies as st
from repeatable import fuzz

from mergebench_core.checkpoints.checkpoint import INDEX, SINGLE, Checkpoint
from mergebench_core.checkpoints.header import MAX_HEADER_BYTES, Header, read_header
from mergebench_core.errors import CheckpointError

pytestmark = pytest.mark.timeout(600)

ONE = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'


def verdict(path: Path) -> Header | None:
    """Return the header of a file, or None if it is refused as it should be."""
    try:
        return read_header(path)
    except CheckpointError as error:
        check_message(str(error), path)
        return None


def check_message(message: str, path: Path) -> None:
    assert str(path) in message
    assert message.isprintable()
    assert len(message) < 1000 + len(str(path))


def agree(path: Path) -> bool:
    """Read a file three ways, check that the readers agree, and return whether it was accepted."""
    data = path.read_bytes()
    header = verdict(path)
    try:
        expected = format_oracle.read(data)
    except Refused:
        expected = None
    assert (header is None) == (expected is None)
    if header is None or expected is None:
        return False
    data_start = len(header.raw)
    assert data.startswith(header.raw)
    assert {
        name: format_oracle.Tensor(
            entry.dtype, entry.shape, entry.start - data_start, entry.start - data_start + entry.num_bytes
        )
        for name, entry in header.entries.items()
    } == expected
    assert {
        name: (found["dtype"], tuple(found["shape"]), bytes(found["data"]))
        for name, found in safetensors.deserialize(data)
    } == {
        name: (entry.dtype, entry.shape, data[entry.start : entry.start + entry.num_bytes])
        for name, entry in header.entries.items()
    }
    return True


def two(first: str, second: str) -> str:
    """Return the header of two tensors of bytes at these offsets."""
    begin, end = map(int, first.split("-"))
    start, stop = map(int, second.split("-"))
    return json.dumps(
        {
            "a": {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]},
            "b": {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]},
        }
    )


def field(dtype='"F32"', shape="[1]", offsets="[0,4]") -> str:
    return f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


REFUSED = {
    "overlap": two("0-3", "2-4"),
    "overlap as if one": two("0-4", "0-4"),
    "one within the other": two("0-4", "1-3"),
    "hole": two("0-1", "2-4"),
    "hole at the beginning": two("1-2", "2-4"),
    "hole at the end": two("0-1", "1-3"),
    "beyond the end": two("0-1", "1-5"),
    "empty tensor within another": two("0-4", "2-2"),
    "empty tensor beyond the end": two("0-4", "5-5"),
    "UTF-16": field().encode("utf-16-le"),
    "UTF-32": field().encode("utf-32-be"),
    "byte order mark": b"\xef\xbb\xbf" + field().encode(),
    "bytes that are no UTF-8": field().replace("a", "\xe9").encode("latin-1"),
    "surrogate in UTF-8": b'{"\xed\xa0\x80":{' + ONE.encode() + b"}}",
    "lone surrogate": field().replace('"a"', '"\\ud800"'),
    "surrogates the wrong way round": field().replace('"a"', '"\\ude00\\ud83d"'),
    "lone surrogate in metadata": f'{{"__metadata__":{{"k":"\\udfff"}},"a":{{{ONE}}}}}',
    "space before": " " + field(),
    "NUL after": field() + "\0",
    "second document": field() + "{}",
    "name twice": f'{{"a":{{{ONE}}},"a":{{{ONE}}}}}',
    "name twice, once escaped": f'{{"a":{{{ONE}}},"\\u0061":{{{ONE}}}}}',
    "dtype twice": f'{{"a":{{"dtype":"F32",{ONE}}}}}',
    "metadata twice": f'{{"__metadata__":{{}},"__metadata__":{{}},"a":{{{ONE}}}}}',
    "metadata's name twice": f'{{"__metadata__":{{"k":"1","k":"2"}},"a":{{{ONE}}}}}',
    "metadata null": f'{{"__metadata__":null,"a":{{{ONE}}}}}',
    "metadata a number": f'{{"__metadata__":{{"k":1}},"a":{{{ONE}}}}}',
    "metadata a text": f'{{"__metadata__":"k","a":{{{ONE}}}}}',
    "metadata a list": f'{{"__metadata__":[],"a":{{{ONE}}}}}',
    "metadata not finite": f'{{"__metadata__":{{"k":NaN}},"a":{{{ONE}}}}}',
    "metadata nested": f'{{"__metadata__":{{"k":{{}}}},"a":{{{ONE}}}}}',
    "further field": f'{{"a":{{{ONE},"x":"y"}}}}',
    "further field, not finite": f'{{"a":{{{ONE},"x":-Infinity}}}}',
    "further field, deep": f'{{"a":{{{ONE},"x":{deep(900)}}}}}',
    "fields in a list": '{"a":["F32",[1],[0,4]]}',
    "dtype an object": field(dtype='{"F32":null}'),
    "dtype deep": field(dtype=deep(980)),
    "dtype lower case": field(dtype='"f32"'),
    "dtype with space": field(dtype='"F32 "'),
    "dtype long": field(dtype=json.dumps("F" * 100_000)),
    "dtype with escape": field(dtype='"\\u001b[2J"'),
    "float": field(shape="[1.0]"),
    "exponent": field(shape="[1e0]"),
    "true": field(shape="[true]"),
    "null": field(shape="[null]"),
    "text": field(shape='["1"]'),
    "minus nought": field(offsets="[-0,4]"),
    "minus nought in a shape": field(shape="[-0]", offsets="[0,0]"),
    "negative": field(shape="[-1,-1]"),
    "2 to the 62": field(shape="[4611686018427387904,0]", offsets="[0,0]"),
    "5000 digits": field(shape=f"[{'9' * 5000}]"),
    "product overflows before nought": field(shape="[2305843009213693952,8,0]", offsets="[0,0]"),
    "product overflows after nought": field(shape="[0,2305843009213693952,8]", offsets="[0,0]"),
    "product of many": field(shape=f"[{','.join(['4611686018427387903'] * 50_000)}]"),
    "65 dimensions": field(shape=f"[{','.join('1' * 65)}]"),
    "one offset": field(offsets="[4]"),
    "three offsets": field(offsets="[0,4,4]"),
    "offsets an object": field(offsets='{"0":0,"4":4}'),
    "offsets a text": field(offsets='"04"'),
    "more bytes than the shape takes": field(offsets="[0,8]"),
    "fewer bytes than the shape takes": field(shape="[2]"),
    "end before begin": field(shape="[0]", offsets="[4,0]"),
    "shape an object": field(shape='{"1":1}'),
    "NUL in a name": field().replace('"a"', '"a\\u0000"'),
    "escape in a name": field().replace('"a"', '"\\u001b]0;x\\u0007"'),
    "right-to-left override in a name": field().replace('"a"', '"a\\u202eb"'),
    "name of 1001": field().replace('"a"', json.dumps("a" * 1001)),
    "long name that is described wrongly": json.dumps({"a" * 100_000: 1}),
    "object 200,000 deep": '{"a":' * 200_000,
    "list 200,000 deep": '{"a":' + deep(200_000) + "}",
    "list 990 deep": '{"a":' + deep(990) + "}",
    "empty": "",
    "one brace": "{",
    "a list": "[]",
    "a text": '"a"',
    "comment": field() + "//",
    "trailing comma": field()[:-1] + ",}",
    "single quotes": field().replace('"', "'"),
    "raw newline in a name": field().replace('"a"', '"a\n"'),
    "wrong escape": field().replace('"a"', '"\\x61"'),
    "leading nought": field(shape="[01]"),
    "plus": field(shape="[+1]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_header_that_breaks_a_rule(tmp_path, case):
    text = REFUSED[case]
    data = b"" if '"data_offsets":[0,0]' in str(text) else b"1234"
    path = write_raw(tmp_path / "x", text if isinstance(text, bytes) else text.encode("utf-8"), data)
    assert not agree(path)


ACCEPTED = {
    "plain": (field(), b"1234"),
    "no tensor": ("{}", b""),
    "no tensor but metadata": ('{"__metadata__":{}}', b""),
    "metadata with markup": (f'{{"__metadata__":{{"<script>":"<b>\\u0000"}},"a":{{{ONE}}}}}', b"1234"),
    "space after": (field() + " \n\t\r", b"1234"),
    "scalar": (field(shape="[]"), b"1234"),
    "no name": (field().replace('"a"', '""'), b"1234"),
    "newline in a name": (field().replace('"a"', '"a\\nb"'), b"1234"),
    "name beyond 16 bits": (field().replace('"a"', '"\\ud83d\\ude00"'), b"1234"),
    "name of 1000": (field().replace('"a"', json.dumps("a" * 1000)), b"1234"),
    "64 dimensions": (field(shape=f"[{','.join('1' * 64)}]"), b"1234"),
    "empty tensors at the border": (
        f'{{"e":{{"dtype":"I8","shape":[0],"data_offsets":[0,0]}},"a":{{{ONE}}},'
        '"f":{"dtype":"F64","shape":[3,0],"data_offsets":[4,4]}}',
        b"1234",
    ),
    "not a number": (field(), b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_odd_header_that_keeps_the_rules(tmp_path, case):
    text, data = ACCEPTED[case]
    assert agree(write_raw(tmp_path / "x", text.encode(), data))


LENGTH = len(field())


@pytest.mark.parametrize(
    "length",
    [0, 1, 2, LENGTH - 1, LENGTH + 1, LENGTH + 4, LENGTH + 5, 2**31, 2**32 + LENGTH, 2**63, 2**64 - 1],
)
def test_length_that_lies(tmp_path, length):
    path = tmp_path / "x"
    path.write_bytes(length.to_bytes(8, "little") + field().encode() + b"1234")
    assert not agree(path)


def test_every_truncation(tmp_path):
    path = write_raw(tmp_path / "x", field().encode(), b"1234")
    data = path.read_bytes()
    assert agree(path)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        assert not agree(path)
    path.write_bytes(data + b"5")
    assert not agree(path)


NAMES = st.text(max_size=4) | st.sampled_from(["a", "b", "__metadata__", "model.norm.weight", "a\nb", "\x1b[2J"])
WHOLES = st.integers(0, 5) | st.sampled_from([2**31, 2**61, 2**62 - 1, 2**62, 2**63, 2**64, 10**30])
ODD = st.sampled_from(
    ["null", "true", "-1", "-0", "1.0", "1e2", "NaN", "Infinity", '""', "[]", "{}", "[[]]", '"F32"', "9" * 30]
)
CHANGES = [(), (), (), (), (), ("field",), ("name",), ("metadata",), ("bytes",), ("size",), ("place",)]
DTYPES = st.sampled_from([*format_oracle.BITS, "F8_E4M3", "C64", "f32", "F4", ""])


@st.composite
def described(draw, steps):
    """Draw tensors that follow one another, but for the `steps` between them, and the number of their bytes.

    A tensor is a pair of its name and its fields, which are JSON text.
    """
    entries, position, num_bytes = [], 0, 0
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        dtype = draw(st.sampled_from(list(format_oracle.BITS)))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = format_oracle.BITS[dtype] // 8
        for dimension in shape:
            size *= dimension
        position = max(position + draw(steps), 0)
        offsets = [position, position + size]
        position += size
        num_bytes = max(num_bytes, position)
        pairs = [("dtype", json.dumps(dtype)), ("shape", json.dumps(shape)), ("data_offsets", json.dumps(offsets))]
        entries.append((name, draw(st.permutations(pairs))))
    return draw(st.permutations(entries)), num_bytes


@st.composite
def changed(draw, pairs):
    """Draw a change to one field of a tensor: another value, one more, one less, one twice."""
    pairs = list(pairs)
    index = draw(st.integers(0, len(pairs) - 1))
    name, _ = pairs[index]
    kind = draw(st.sampled_from(["value", "odd", "twice", "gone", "more"]))
    if kind == "value":
        values = {
            "dtype": DTYPES,
            "shape": st.lists(WHOLES, max_size=4),
            "data_offsets": st.lists(WHOLES, max_size=3),
        }
        pairs[index] = (name, json.dumps(draw(values[name])))
    elif kind == "gone":
        del pairs[index]
    else:
        pairs.append((name if kind == "twice" else "more", draw(ODD | st.just(pairs[index][1]))))
    return draw(st.permutations(pairs))


@st.composite
def files(draw):
    """Draw the bytes of a file: a right one, or one with something wrong at one place or several."""
    changes = draw(st.sampled_from(CHANGES))
    entries, num_bytes = draw(described(st.sampled_from([0, 0, 1, 4, -1, -4] if "place" in changes else [0])))
    if "field" in changes and entries:
        index = draw(st.integers(0, len(entries) - 1))
        entries[index] = (entries[index][0], draw(changed(entries[index][1])))
    if "name" in changes and entries:
        entries.append((draw(NAMES | st.just(entries[0][0])), entries[0][1]))
    gap, is_ascii = draw(st.sampled_from(["", " ", "\n", "\t"])), draw(st.booleans())
    members = [
        f"{json.dumps(name, ensure_ascii=is_ascii)}:{gap}"
        + "{" + f",{gap}".join(f'"{key}":{value}' for key, value in pairs) + "}"
        for name, pairs in entries
    ]  # fmt: skip
    if "metadata" in changes:
        members.insert(
            0, f'"__metadata__":{draw(ODD | st.dictionaries(NAMES, NAMES, max_size=2).map(json.dumps))}'
        )
    text = ("{" + f",{gap}".join(members) + "}").encode("utf-8", "surrogatepass") + gap.encode()
    data = bytes(num_bytes)
    if "size" in changes:
        data = bytes(max(0, num_bytes + draw(st.sampled_from([-4, -1, 1, 4]))))
    whole = bytearray(len(text).to_bytes(8, "little") + text + data)
    if "bytes" in changes:
        for _ in range(draw(st.integers(1, 3))):
            whole[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
    return bytes(whole)


def test_readers_agree_on_whatever_comes(tmp_path):
    path, outcomes = tmp_path / "x", Counter()

    @fuzz(800)
    @given(files())
    def run(data):
        path.write_bytes(data)
        outcomes[agree(path)] += 1

    run()
    assert min(outcomes[True], outcomes[False]) > 100


def test_as_many_tensors_as_a_header_can_hold(tmp_path):
    one = '"%06x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(one % number for number in range(200_000)) + "}"
    assert len(verdict(write_raw(tmp_path / "x", text.encode())).entries) == 200_000


BOMBS = {
    "lists": ('{"a":[[]', ",[]", "]}"),
    "numbers": ('{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[1', ",4611686018427387903", "]}}"),
    "long name": ('{"', "a", '":1}'),
}  # fmt: skip
READ_WITHIN = """
import resource, sys
from pathlib import Path
from mergebench_core.checkpoints.header import read_header
from mergebench_core.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
try:
    read_header(Path(sys.argv[2]))
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize("case", BOMBS)
def test_largest_header_needs_bounded_memory_and_time(tmp_path, case):
    """The limit of memory is the process's; the limit of time is there to find a hang only."""
    start, middle, end = BOMBS[case]
    count = (MAX_HEADER_BYTES - len(start) - len(end)) // len(middle)
    path = write_raw(tmp_path / "x", (start + middle * count + end).encode(), b"1234")
    command = [sys.executable, "-c", READ_WITHIN, str(1 << 30), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    check_message(done.stdout.strip(), path)


def test_header_beyond_the_limit_is_not_read(tmp_path):
    path = tmp_path / "x"
    text = field().encode().ljust(MAX_HEADER_BYTES + 1)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"1234")
    assert verdict(path) is None
    text = text[:-1]
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"1234")
    assert list(verdict(path).entries) == ["a"]


@pytest.fixture
def odd_files(tmp_path) -> Path:
    """A folder with what is no file, and links to what is one."""
    write_raw(tmp_path / "real" / "good", field().encode(), b"1234")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "endless").symlink_to("endless")
    (tmp_path / "nowhere").symlink_to("absent")
    (tmp_path / "to_pipe").symlink_to("pipe")
    (tmp_path / "to_good").symlink_to("real/good")
    (tmp_path / "twice_linked").symlink_to("to_good")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    return tmp_path


NO_FILES = ("pipe", "folder", "device", "endless", "nowhere", "to_pipe", "absent", "sparse", "n" * 300)


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_is_refused_at_once(odd_files, name):
    assert verdict(odd_files / name) is None


@pytest.mark.parametrize("name", ["to_good", "twice_linked"])
def test_links_are_followed(odd_files, name):
    """Caches of models are made of links."""
    assert list(verdict(odd_files / name).entries) == ["a"]


@pytest.mark.parametrize("name", ["pipe", "device", "folder", "endless", "to_pipe"])
@pytest.mark.parametrize("place", [SINGLE, INDEX, "shard"])
def test_folder_whose_files_are_none(odd_files, name, place):
    folder = odd_files / "model"
    folder.mkdir()
    (folder / place).symlink_to(odd_files / name)
    if place == "shard":
        (folder / INDEX).write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(CheckpointError) as error:
        Checkpoint(folder)
    check_message(str(error.value), folder)


def test_file_that_is_exchanged_for_a_pipe(tmp_path):
    """It was a file when its header was read."""
    path = write_raw(tmp_path / SINGLE, field().encode(), b"1234")
    checkpoint = Checkpoint(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.tensor("a")
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="no regular file"):
        checkpoint.tensor("a")


def test_path_that_is_too_long():
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint(Path("/" + "n" * 5000))


SHARDS = ("one.safetensors", "two.safetensors")
GOOD = st.sampled_from(SHARDS).map(json.dumps)
NO_NAMES = (
    ".", "..", "../one.safetensors", "/etc/passwd", "sub/one.safetensors", "one.safetensors\0", "\ud800", "", "\n",
    ".hidden", "n" * 300, "n" * 1500, "\x1b[2J",
)  # fmt: skip
NO_SHARDS = ("absent.safetensors", "pipe", INDEX, "one.safetensors ")
WRONG = ODD | st.sampled_from(NO_NAMES + NO_SHARDS).map(json.dumps)


@pytest.mark.parametrize("name", NO_NAMES)
def test_index_that_names_what_is_no_name_of_a_file(tmp_path, name):
    write_raw(tmp_path / SHARDS[0], field().encode(), b"1234")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": SHARDS[0], "b": name}}))
    with pytest.raises(CheckpointError, match="names a file outside the folder") as error:
        Checkpoint(tmp_path)
    check_message(str(error.value), tmp_path)


@st.composite
def indices(draw):
    """Draw the bytes of an index: a right one, or one that names what is no shard or is no index."""
    kind = draw(st.sampled_from([*["good"] * 5, "value", "map", "bytes"]))
    values = draw(st.lists(GOOD, min_size=1, max_size=3)) + ([draw(WRONG)] if kind == "value" else [])
    names = [json.dumps(draw(NAMES)) for _ in values]
    text = "{" + ",".join(f"{name}:{value}" for name, value in zip(names, values, strict=True)) + "}"
    size = draw(ODD | st.sampled_from(["1", "1.35e10"]))
    whole = f'{{"metadata":{{"total_size":{size}}},"weight_map":{draw(ODD) if kind == "map" else text}}}'
    data = bytearray(whole.encode())
    if kind == "bytes":
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def test_any_index(tmp_path):
    for name in SHARDS:
        write_raw(tmp_path / name, field().replace('"a"', json.dumps(name)).encode(), b"1234")
    os.mkfifo(tmp_path / "pipe")
    outcomes = Counter()

    @fuzz(600)
    @given(indices())
    def run(data):
        (tmp_path / INDEX).write_bytes(data)
        try:
            found = Checkpoint(tmp_path)
        except CheckpointError as error:
            check_message(str(error), tmp_path)
            outcomes["refused"] += 1
        else:
            named = set(json.loads(data)["weight_map"].values())
            assert set(found.names) == named <= set(SHARDS)
            outcomes[len(named)] += 1

    run()
    assert min(outcomes["refused"], outcomes[1], outcomes[2]) > 20


@pytest.mark.parametrize(
    "text",
    [
        '{"weight_map":' * 200_000,
        '{"weight_map":{"a":' + deep(990) + "}}",
        '{"weight_map":{"a":"one","a":"two"}}',
        '{"weight_map":{"a":3}}',
        '{"weight_map":{"a":["one"]}}',
        '{"weight_map":{"a":"one","b":3}}',
    ],
)
def test_index_that_is_none(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match="no index of shards"):
        Checkpoint(tmp_path)


def test_index_beyond_the_limit(tmp_path):
    with (tmp_path / INDEX).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="no index of shards"):
        Checkpoint(tmp_path)
