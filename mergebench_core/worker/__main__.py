"""Entry point of the worker process: `python -m mergebench_core.worker SOCKET_FD WINDOW_FD [warm]`."""

from __future__ import annotations

import os
import socket
import sys

from mergebench_core.errors import ProtocolError
from mergebench_core.worker.serve import Server, WorkerChannel
from mergebench_core.worker.window import Window


def main() -> int:
    """Serve the host until it closes the conversation or goes away."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    window = Window(int(sys.argv[2]))
    os.dup2(2, 1)  # what a method prints must not mix with the host's output
    if "warm" in sys.argv[3:]:
        import torch  # noqa: F401
    try:
        Server(WorkerChannel(connection), window).serve()
    except ProtocolError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
