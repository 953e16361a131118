"""Framing of messages, in both directions, and the shared memory beside them."""

from __future__ import annotations

import math
import os
import socket
import struct
import threading

import pytest
import torch

from mergebench_core.errors import ProtocolError
from mergebench_core.worker.channel import MAX_MESSAGE_BYTES, Channel, ConnectionLost
from mergebench_core.worker.window import NUM_SLOTS, SLOT_BYTES, Window, create_descriptor


@pytest.fixture
def ends():
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_messages_go_both_ways_in_order(ends):
    here, there = map(Channel, ends)
    for message in ({"a": 1}, {"b": ["ü", None, True, 0.1]}, {}):
        here.send(message)
        there.send({**message, "back": 1})
    assert [there.receive() for _ in range(3)] == [{"a": 1}, {"b": ["ü", None, True, 0.1]}, {}]
    assert [here.receive()["back"] for _ in range(3)] == [1, 1, 1]


def test_largest_message_arrives_in_parts(ends):
    here, there = map(Channel, ends)
    message = {"text": "x" * (MAX_MESSAGE_BYTES - len('{"text": ""}'))}
    sender = threading.Thread(target=here.send, args=[message])
    sender.start()
    assert there.receive() == message
    sender.join()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"text": "x" * MAX_MESSAGE_BYTES}, "at most 1048576 are allowed"),
        ({"value": math.nan}, "not plain JSON"),
        ({"value": object()}, "not plain JSON"),
        ({"value": {1, 2}}, "not plain JSON"),
    ],
)
def test_message_that_cannot_be_sent(ends, message, text):
    with pytest.raises(ProtocolError, match=text):
        Channel(ends[0]).send(message)
    Channel(ends[0]).send({"still": "works"})
    assert Channel(ends[1]).receive() == {"still": "works"}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (struct.pack(">I", MAX_MESSAGE_BYTES + 1), "1048577 bytes was announced"),
        (b"\xff\xff\xff\xff", "4294967295 bytes was announced"),
        (framed(b""), "is not JSON"),
        (framed(b"{"), "is not JSON"),
        (framed(b"\xff\xfe\x00"), "is not JSON"),
        (framed(b"[" * 500_000), "is not JSON"),
        (framed(b"[1]"), "not a JSON object"),
        (framed(b'"ok"'), "not a JSON object"),
        (framed(b"null"), "not a JSON object"),
    ],
)
def test_malformed_message(ends, data, text):
    sender = threading.Thread(target=ends[0].sendall, args=[data])
    sender.start()
    with pytest.raises(ProtocolError, match=text):
        Channel(ends[1]).receive()
    sender.join()


@pytest.mark.parametrize("data", [b"", b"\0\0", framed(b'{"a": 1}')[:-1]])
def test_other_side_gone(ends, data):
    ends[0].sendall(data)
    ends[0].close()
    with pytest.raises(ConnectionLost, match="connection was closed"):
        Channel(ends[1]).receive()
    with pytest.raises(ConnectionLost, match="has gone"):
        Channel(ends[1]).send({"text": "x" * 1_000_000})


@pytest.fixture
def windows():
    """Two views of one memory, as host and worker have them."""
    descriptor = create_descriptor()
    pair = Window(descriptor), Window(descriptor)
    yield *pair, descriptor
    for window in pair:
        window.close()
    os.close(descriptor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_cross_the_window_slot_by_slot(windows, dtype):
    here, there, _ = windows
    values = [torch.arange(slot, slot + 5).to(dtype) for slot in range(NUM_SLOTS)]
    for slot, value in enumerate(values):
        here.put(slot, value)
    for slot, value in enumerate(values):
        assert torch.equal(there.take(slot, 5, dtype), value)
    full = torch.ones(SLOT_BYTES // dtype.itemsize, dtype=dtype)
    here.put(1, full)
    assert torch.equal(there.take(1, full.numel(), dtype), full)
    assert torch.equal(there.take(0, 5, dtype), values[0])
    assert torch.equal(there.take(2, 5, dtype), values[2])


def test_what_was_taken_cannot_change_any_more(windows):
    here, there, _ = windows
    here.put(0, torch.ones(3))
    taken = there.take(0, 3, torch.float32)
    here.put(0, torch.zeros(3))
    assert taken.tolist() == [1.0, 1.0, 1.0]


def test_window_cannot_be_shortened(windows):
    """Otherwise a worker could end the host with a bus error."""
    if not hasattr(os, "memfd_create"):
        pytest.skip("only where the system seals memory")
    for size in (0, 2 * NUM_SLOTS * SLOT_BYTES):
        with pytest.raises(PermissionError):
            os.ftruncate(windows[2], size)
