"""Messages between host and worker: 4-byte big-endian length, then one JSON object of at most 1 MiB.

Host requests: `load`, `open`, `prepare`, `merge`, `close`. The worker answers each with `ok` or `error`, and
before that may send `chunk` (acknowledged by `ack`) or ask for `samples`, `validate`, `log`. Where there is a GPU,
`release` comes after each answer, and before a candidate is taken or scored; only `ok` or `error` may follow it.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
from typing import Any

from mergebench_core.errors import ProtocolError

MAX_MESSAGE_BYTES = 1 << 20
MAX_DEPTH = 20
"""Of lists and objects within one another; a description needs eight."""
MAX_DIGITS = 40
MAX_TEXT_CHARACTERS = 2000
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
"""What moves a terminal's cursor, reorders its text, ends its line, or cannot be written at all."""
Message = dict[str, Any]


class ConnectionLost(ProtocolError):
    """The other side has gone."""


class Channel:
    """One end of the connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            ProtocolError: larger than 1 MiB, not JSON, or the other side has gone.
        """
        try:
            data = json.dumps(message, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"message is not plain JSON: {error}") from None
        if len(data) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
        try:
            self._connection.sendall(struct.pack(">I", len(data)) + data)
        except OSError:
            raise ConnectionLost("the other side of the worker's connection has gone") from None

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            ProtocolError: the other side has gone, or sent something else than a JSON object of at most 1 MiB.
        """
        (length,) = struct.unpack(">I", self._read(4))
        if length > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a message of {length} bytes was announced; {MAX_MESSAGE_BYTES} are allowed")
        data = self._read(length)
        try:
            message = DECODER.decode(data.decode("utf-8"))
        except (ValueError, RecursionError):
            raise ProtocolError("a message is not JSON") from None
        if not isinstance(message, dict):
            raise ProtocolError("a message is not a JSON object")
        if not _is_shallow(message, MAX_DEPTH):
            raise ProtocolError("a message is nested too deep")
        return message

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                part = self._connection.recv(min(1 << 16, count - len(data)))
            except OSError:
                part = b""
            if not part:
                raise ConnectionLost("the worker's connection was closed")
            data += part
        return bytes(data)


def plain(text: object, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """Return what the other side gave as a text that is safe to show: one line, cut to `limit` characters."""
    return CONTROLS.sub(" ", str(text)[:limit])


def _bounded_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("an integer is too long")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


def _is_shallow(value: Any, depth: int) -> bool:
    """Return whether no more than `depth` lists and objects lie within one another."""
    if not isinstance(value, dict | list):
        return True
    return depth > 0 and all(_is_shallow(item, depth - 1) for item in _items(value))


def _items(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


DECODER = json.JSONDecoder(parse_int=_bounded_int, parse_float=_finite, parse_constant=_finite)
"""Takes numbers that fit into a float."""
