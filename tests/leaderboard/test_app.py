"""Starting the page, and what of it can be reached."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from mergebench_leaderboard.app import check_port, launch

from mergebench_core.errors import InputError


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} .*in use.*--port") as caught:
            launch(tmp_path / "board.duckdb", port=port)
    assert "\n" not in str(caught.value)
    check_port("127.0.0.1", port)


def test_an_address_elsewhere_is_one_line() -> None:
    with pytest.raises(InputError, match=r"192\.0\.2\.1"):
        check_port("192.0.2.1", 7860)
    with pytest.raises(InputError, match=r"no\.such\.host\.invalid"):
        check_port("no.such.host.invalid", 7860)
