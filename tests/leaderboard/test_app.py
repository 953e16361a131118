"""Starting the page, and what of it can be reached."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from mergebench_leaderboard.app import check_port, launch
from mergebench_leaderboard.page import show_board
from mergebench_leaderboard.queries import ALL_BASES
from record_samples import merge_record, reference_records

from mergebench_core import store
from mergebench_core.errors import InputError
from mergebench_core.published import PUBLISHED_WORLD


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


def test_without_results_the_paper_is_shown_and_the_first_result_takes_its_place(tmp_path: Path) -> None:
    snapshot = tmp_path / store.BOARD_NAME
    _, empty, controls, world, _, table, notes, *_ = show_board(snapshot, None, ALL_BASES, "", "Normalized", True)
    assert (empty["visible"], controls["visible"], world["value"]) == (True, False, None)
    assert (len(table["value"]["data"]), table["visible"]) == (72, True)
    assert "not measured here" in notes

    for record in (merge_record("ties"), *reference_records()):
        path = store.record_path(tmp_path, record.job_id)
        path.parent.mkdir(parents=True)
        path.write_text(record.to_json(), encoding="utf-8")
    store.build(tmp_path)
    _, empty, controls, world, _, table, *_ = show_board(snapshot, world["value"], ALL_BASES, "", "Raw", True)
    assert (empty["visible"], controls["visible"]) == (False, True)
    assert world["value"] == "mini-v1 · aaaaaaaa"
    assert world["choices"] == ["mini-v1 · aaaaaaaa", PUBLISHED_WORLD]
    assert len(table["value"]["data"]) == 8
    *_, table, notes, _, _, _ = show_board(snapshot, PUBLISHED_WORLD, "gemma-2-2b", "stitch", "Raw", True)
    assert [line[1] for line in table["value"]["data"]] == ["L&S (published)", "Dataless L&S (published)"]
    *_, table, notes, _, _, _ = show_board(snapshot, PUBLISHED_WORLD, "gemma-2-2b", "dare", "Raw", True)
    assert [line[:4] for line in table["value"]["data"]] == [[None, "DARE (published)", "gemma-2-2b", 66.1]]
