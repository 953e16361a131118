"""A second reader of safetensors files, written apart from the first: what may stand in one, and nothing else.

It knows no JSON but the JSON of a header: names, texts, and whole numbers in lists.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

MAX_HEADER_BYTES = 16 * 1024 * 1024
BITS = {
    "F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8,
}  # fmt: skip
SPACE = re.compile(r"[ \t\n\r]*")
TEXT = re.compile(r'"((?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*)"')
WHOLE = re.compile(r"(?:0|[1-9][0-9]{0,18})(?![0-9.eE])")
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Refused(Exception):
    """The file breaks a rule."""


@dataclass(frozen=True)
class Tensor:
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file, given all of its bytes."""
    _demand(len(data) >= 8)
    length = sum(byte << (8 * place) for place, byte in enumerate(data[:8]))
    _demand(2 <= length <= MAX_HEADER_BYTES and 8 + length <= len(data))
    try:
        text = data[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError:
        raise Refused from None
    tensors = Reader(text).header()
    for name, tensor in tensors.items():
        _check_name(name)
        _check_size(tensor)
    _check_cover(list(tensors.values()), len(data) - 8 - length)
    return tensors


def _demand(is_kept: bool) -> None:
    if not is_kept:
        raise Refused


def _check_name(name: str) -> None:
    shown = name.replace("\n", "").replace(" ", "")
    _demand(len(name) <= 1000 and not any(unicodedata.category(letter)[0] in "CZ" for letter in shown))


def _check_size(tensor: Tensor) -> None:
    _demand(tensor.dtype in BITS and len(tensor.shape) <= 64)
    _demand(all(number < 2**62 for number in (*tensor.shape, tensor.begin, tensor.end)))
    numel = volume = 1
    for size in tensor.shape:
        numel, volume = numel * size, volume * (size or 1)
    _demand(volume < 2**62 and 8 * (tensor.end - tensor.begin) == numel * BITS[tensor.dtype])


def _check_cover(tensors: list[Tensor], num_bytes: int) -> None:
    """Walk from one tensor to the next one that begins where it ends; all must be met, and the end reached."""
    filled = {tensor.begin: tensor.end for tensor in tensors if tensor.end != tensor.begin}
    _demand(len(filled) == sum(tensor.end != tensor.begin for tensor in tensors))
    borders = {0}
    position = 0
    while position in filled:
        position = filled.pop(position)
        borders.add(position)
    _demand(not filled and position == num_bytes)
    _demand(all(tensor.begin in borders for tensor in tensors))


class Reader:
    """Goes through a header's text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def header(self) -> dict[str, Tensor]:
        """Read all of it."""
        _demand(self._text.startswith("{"))
        found = self._members(
            lambda name: self._members(self._text_of) if name == "__metadata__" else self._tensor()
        )
        self._skip()
        _demand(self._at == len(self._text))
        return {name: value for name, value in found.items() if name != "__metadata__"}

    def _tensor(self) -> Tensor:
        readers = {"dtype": self._string, "shape": self._numbers, "data_offsets": self._numbers}
        found = self._members(lambda name: readers[name]() if name in readers else _demand(False))
        _demand(len(found) == 3 and len(found["data_offsets"]) == 2)
        return Tensor(found["dtype"], tuple(found["shape"]), *found["data_offsets"])

    def _members(self, value_of: Callable) -> dict:
        found: dict = {}
        self._sign("{")
        if self._next("}"):
            return found
        while True:
            name = self._string()
            _demand(name not in found)
            self._sign(":")
            found[name] = value_of(name)
            if self._next("}"):
                return found
            self._sign(",")

    def _numbers(self) -> list[int]:
        found: list[int] = []
        self._sign("[")
        if self._next("]"):
            return found
        while True:
            found.append(int(self._match(WHOLE).group()))
            if self._next("]"):
                return found
            self._sign(",")

    def _text_of(self, _name: str) -> str:
        return self._string()

    def _string(self) -> str:
        raw = self._match(TEXT).group(1)
        text = ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else SHORT.get(found[2], found[2]), raw)
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise Refused from None

    def _match(self, pattern: re.Pattern) -> re.Match:
        self._skip()
        found = pattern.match(self._text, self._at)
        if found is None:
            raise Refused
        self._at = found.end()
        return found

    def _sign(self, sign: str) -> None:
        _demand(self._next(sign))

    def _next(self, sign: str) -> bool:
        """Go past `sign` if it comes next."""
        self._skip()
        is_there = self._text.startswith(sign, self._at)
        self._at += is_there
        return is_there

    def _skip(self) -> None:
        self._at = SPACE.match(self._text, self._at).end()
