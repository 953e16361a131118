"""Messages between host and worker: 4-byte big-endian length, then one JSON object of at most 1 MiB.

Host requests: `load`, `open`, `prepare`, `merge`, `close`. The worker answers each with `ok` or `error`, and
before that may send `chunk` (acknowledged by `ack`) or ask for `samples`, `validate`, `log`.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from mergebench_core.errors import ProtocolError

MAX_MESSAGE_BYTES = 1 << 20
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
            message = json.loads(data)
        except (ValueError, RecursionError):
            raise ProtocolError("a message is not JSON") from None
        if not isinstance(message, dict):
            raise ProtocolError("a message is not a JSON object")
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
