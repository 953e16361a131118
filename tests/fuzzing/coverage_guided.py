"""Fuzzing led by coverage, with atheris: `python tests/fuzzing/coverage_guided.py HARNESS SECONDS SEED FOLDER`.

What it finds it leaves in FOLDER, one file for each input; the same command with such a file as a fifth argument
tries that input alone. The last line says how many inputs were tried.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
MEMORY_MIB = 3000
INPUT_S = 30
"""Longer for one input, and it counts as a hang."""
MAX_BYTES = 4096
WORDS = (
    "dtype", "shape", "data_offsets", "__metadata__", "F32", "BF16", "BOOL", "weight_map", "one.safetensors", "..",
    "ok", "error", "chunk", "offset", "numel", "slot", "ask", "samples", "candidate", "validate", "log", "message",
    "traceback", "is_input", "domain", "domains", "start", "count", "math", "model.norm.weight",
    "hyperparameters", "stages", "parameters", "linear_in", "default", "low", "high", "choices", "name",
)  # fmt: skip
SIGNS = (
    "{}", "[]", "[0,4]", "[1]", ":", ",", "null", "true", "NaN", "Infinity", "1e999", "1.0", "-0", "-1",
    "9223372036854775808", "\\u0000", "\\ud800", "\\u001b", "\\u202e", "\\n", "\n", "\xff", "\xef\xbb\xbf",
)  # fmt: skip
"""What a fuzzer that knows no JSON would need long to find."""
Harness = Callable[[bytes], None]


def header(seeds: Path) -> Harness:
    """Three readers of one file must agree: the validator, the second reader, the library if both accept.

    The first byte of an input chooses: 0 for the bytes of a file as they are, else the text of a header, which
    gets its right length and about as many bytes of data as it speaks of.
    """
    with atheris.instrument_imports(include=["format_oracle", "json", "mergebench_core.checkpoints.header"]):
        from test_checkpoints_fuzz import ACCEPTED, REFUSED, agree

    texts = [text for text, _ in ACCEPTED.values()] + [text for text in REFUSED.values() if len(text) < MAX_BYTES]
    for number, text in enumerate(texts):
        (seeds / str(number)).write_bytes(b"\2" + (text if isinstance(text, bytes) else text.encode()))
    path = Path(f"/proc/self/fd/{_memory_file()}")

    def run(data: bytes) -> None:
        path.write_bytes(data[1:] if data[:1] == b"\0" else _file_of(data))
        agree(path)

    return run


def _memory_file() -> int:
    return os.memfd_create("fuzzed")


def _file_of(data: bytes) -> bytes:
    text = data[1:]
    numbers = [int(found) for found in re.findall(rb"(?<![A-Za-z0-9_])[0-9]{1,3}", text)]
    num_bytes = max([number for number in numbers if number <= 64], default=0) + (data[:1] == b"\1")
    return len(text).to_bytes(8, "little") + text + bytes(num_bytes)


def index(seeds: Path) -> Harness:
    """An index of shards is refused, or leads to all the tensors of the shards that it names."""
    with atheris.instrument_imports(include=["json", "mergebench_core.checkpoints"]):
        from test_checkpoints_fuzz import SHARDS, check_message, field, write_raw

        from mergebench_core.checkpoints.checkpoint import INDEX, Checkpoint
        from mergebench_core.errors import CheckpointError

    folder = seeds.with_name("model")
    for name in SHARDS:
        write_raw(folder / name, field().replace('"a"', json.dumps(name)).encode(), b"1234")
    for number, values in enumerate([SHARDS, SHARDS[:1], ["../one"], [3], ["\0"], [""], [".."]]):
        document = {"metadata": {"total_size": 1.5}, "weight_map": dict(zip("ab", values, strict=False))}
        (seeds / str(number)).write_text(json.dumps(document))

    def run(data: bytes) -> None:
        (folder / INDEX).write_bytes(data)
        try:
            found = Checkpoint(folder)
        except CheckpointError as error:
            check_message(str(error), folder)
        else:
            assert set(found.names) == set(json.loads(data)["weight_map"].values()) <= set(SHARDS)

    return run


def channel(seeds: Path) -> Harness:
    """A stream of bytes is cut into messages, which the standard library reads alike, or refused."""
    with atheris.instrument_imports(include=["json", "mergebench_core.worker.channel"]):
        from test_rpc_fuzz import BROKEN, framed, message, received

    for number, data in enumerate([*BROKEN.values(), message({"ok": [1, 0.5, "ü", {"a": None}]}) * 2]):
        if len(data) < MAX_BYTES:
            (seeds / str(number)).write_bytes(data)

    def run(data: bytes) -> None:
        for found in received(data) + received(framed(data)):
            text = json.dumps(found, allow_nan=False)
            assert json.loads(text) == found

    return run


def conversation(seeds: Path) -> Harness:
    """The host stands whatever a worker says: each line of an input is the text of one message.

    The first byte chooses the request and how many answers the worker waits for before it goes.
    """
    names = ["channel", "host", "description"]
    modules = [f"mergebench_core.worker.{name}" for name in names]
    with atheris.instrument_imports(include=[*modules, "mergebench_core.checkpoints.assembly"]):
        from checkpoint_samples import random_models
        from hostile_worker import REQUESTS, Theatre, framed, pieces_of
        from test_rpc_fuzz import DESCRIPTION, WRONG_FIELDS

    theatre = Theatre(random_models(seeds.with_name("models")), seeds.parent)
    pieces = pieces_of(theatre.expected)
    candidate = [{"ask": "candidate", "domains": ["math"]}, *pieces, {"ask": "validate"}]
    said = [[*pieces, {"ok": None}], [*candidate, *pieces, {"ok": None}], [{"ok": [DESCRIPTION]}]]
    said += [[candidate[0], *pieces[:-1], {"ask": "validate"}], [*pieces[:-1], {"ok": None}]]
    said += [[document] for document in WRONG_FIELDS]
    for number, documents in enumerate(said):
        data = b"\n".join(json.dumps(document).encode() for document in documents)
        if len(data) < MAX_BYTES:
            for request in range(len(REQUESTS)) if number < 3 else (2,):
                (seeds / f"{number}-{request}").write_bytes(bytes([request]) + data)

    def run(data: bytes) -> None:
        choice = data[0] if data else 0
        request = REQUESTS[choice % len(REQUESTS)]
        patience = choice // len(REQUESTS) or 1 << 30
        outcome = theatre.play(b"".join(map(framed, data[1:].split(b"\n"))), request, patience)
        theatre.check(outcome, request)

    return run


def description(seeds: Path) -> Harness:
    """A description is refused, or all of it can be used."""
    with atheris.instrument_imports(
        include=["mergebench_core.worker.description", "mergebench_core.hyperparameters"]
    ):
        from test_rpc_fuzz import CANNOT_BE, DESCRIPTION, framed, received, usable

    for number, change in enumerate([{}, *CANNOT_BE.values()]):
        text = json.dumps({**DESCRIPTION, **change})
        if len(text) < MAX_BYTES:
            (seeds / str(number)).write_text(text)

    def run(data: bytes) -> None:
        for found in received(framed(data)):
            usable(found)

    return run


def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
    """Change some bytes, or take away, double or exchange parts between commas or newlines."""
    random = Random(seed)
    if random.random() < 0.5:
        return atheris.Mutate(data, max_bytes)
    sign = random.choice([b",", b"\n"])
    parts = data.split(sign)
    first, second = (random.randrange(len(parts)) for _ in range(2))
    kind = random.choice(["gone", "double", "exchange"])
    if kind == "gone":
        del parts[first]
    elif kind == "double":
        parts.insert(second, parts[first])
    else:
        parts[first], parts[second] = parts[second], parts[first]
    return sign.join(parts)[:max_bytes]


HARNESSES = {make.__name__: make for make in (header, index, channel, conversation, description)}


def write_words(file: Path) -> None:
    """Write the dictionary that inputs are made with."""
    texts = [f'"{word}"' for word in WORDS] + list(SIGNS)
    quoted = ("".join(f"\\x{byte:02x}" for byte in text.encode("latin-1")) for text in texts)
    file.write_text("".join(f'"{text}"\n' for text in quoted), encoding="ascii")


def main(name: str, seconds: str, seed: str, folder: str, *inputs: str) -> None:
    """Run one harness until its time is up or an input breaks it."""
    found, work = Path(folder), Path(tempfile.mkdtemp(dir=folder))
    (work / "seeds").mkdir()
    write_words(work / "words")
    run = HARNESSES[name](work / "seeds")
    limits = [
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        "-print_final_stats=1",
    ]
    words = [f"-seed={seed}", f"-max_len={MAX_BYTES}", f"-artifact_prefix={found}/", f"-dict={work}/words"]
    atheris.Setup([sys.argv[0], *limits, *words, *(inputs or [str(work / "seeds")])], run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
