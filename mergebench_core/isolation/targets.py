"""What the probe tries to reach: a file, a folder, sockets and a process of the host, made for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from mergebench_core.isolation.probe import ALLOWED, process_start


class Targets:
    """A context manager: everything is there inside the block, open to every user of the machine."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mergebench-probe-"))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Targets:
        self._folder.chmod(0o777)
        canary = self._folder / "canary"
        canary.write_text("canary", encoding="ascii")
        canary.chmod(0o644)
        self._tcp = self._listener(socket.AF_INET, ("127.0.0.1", 0))
        self._udp = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind(("127.0.0.1", 0))
        self._udp.setblocking(False)
        self._abstract = f"mergebench-{uuid.uuid4().hex}"
        self._listener(socket.AF_UNIX, f"\0{self._abstract}")
        self._listener(socket.AF_UNIX, str(self._folder / "socket"))
        (self._folder / "socket").chmod(0o777)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def orders(self) -> dict[str, Any]:
        """Return what the probe is told."""
        return {
            "folder": str(self._folder),
            "tcp_port": self._tcp.getsockname()[1],
            "udp_port": self._udp.getsockname()[1],
            "abstract": self._abstract,
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
        }

    def corrected(self, found: dict[str, str]) -> dict[str, str]:
        """Return what the probe reports, where this side knows better: a datagram may leave and reach nobody."""
        if found.get("udp") != ALLOWED:
            return found
        try:
            self._udp.recv(64)
        except BlockingIOError:
            return found | {"udp": "denied (not received)"}
        return found

    def _listener(self, family: int, address: Any) -> socket.socket:
        listener = self._stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.bind(address)
        listener.listen()
        return listener
