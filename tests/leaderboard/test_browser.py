"""The page in a real browser, served by the program that users start."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, find_chromium, open_page
from record_samples import failed_record, merge_record, reference_records

from mergebench_core import store
from mergebench_core.records import RunRecord

APP = Path(__file__).parents[2] / "leaderboard" / "app.py"

IS_MISSING = find_chromium() is None and not os.environ.get("MERGEBENCH_REQUIRE_BROWSER")  # CI must not skip
pytestmark = [pytest.mark.slow, pytest.mark.skipif(IS_MISSING, reason="needs Chromium")]

CELLS = "[...document.querySelectorAll('#{table} [role=gridcell]')].map(cell => cell.innerText.trim())"
MAIN, FAILED = CELLS.format(table="main-table"), CELLS.format(table="failed-table")
COLUMN = (
    "[...document.querySelectorAll('#main-table [aria-colindex=\"{}\"][role=gridcell]')].map(c => c.innerText)"
)
METHODS, HEADLINES = COLUMN.format(2), COLUMN.format(4)


def add(home: Path, *records: RunRecord) -> None:
    for record in records:
        path = store.record_path(home, record.job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.to_json(), encoding="utf-8")
    store.build(home)


@contextlib.contextmanager
def serve(home: Path) -> Iterator[str]:
    """Start the Space's program over the home's snapshot; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "MERGEBENCH_BOARD": str(home / store.BOARD_NAME), "GRADIO_SERVER_PORT": str(port),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, APP], env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            assert f"http://127.0.0.1:{port}" in process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@contextlib.contextmanager
def browse(url: str) -> Iterator[Page]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, open_page(url, Path(folder)) as page:
        yield page


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    merges = [merge_record("ties", 0.7), merge_record("model_soup", 0.5), merge_record("dare", 0.6)]
    gemma = [merge_record("ties", 0.3, base_model="mini-gemma"), *reference_records(base_model="mini-gemma")]
    add(home, *merges, *reference_records(), *gemma, failed_record("fisher", reason="<b id=evil>worker</b> ended"))
    with serve(home) as url:
        yield url


def test_table_controls_and_failed_runs(filled: str) -> None:
    with browse(filled) as page:
        page.wait_for(f"{METHODS}.length == 18")
        cells = page.evaluate(MAIN)
        assert cells[8 * 14 : 8 * 14 + 4] == ["1", "Ties", "mini-llama", "87.5"]
        assert page.evaluate(FAILED)[:4] == ["Fisher", "mini-llama", "failed", "<b id=evil>worker</b> ended"]
        assert page.evaluate("document.querySelector('#evil')") is None

        page.evaluate("document.querySelector('#controls input[type=checkbox]').click()")
        page.wait_for(f"{METHODS}.length == 4")
        assert page.evaluate(METHODS) == ["Ties", "Ties", "Dare", "Model Soup"]

        page.evaluate("[...document.querySelectorAll('#controls input[type=radio]')][1].click()")
        page.wait_for(f"{MAIN}.includes('70.0')")
        assert page.evaluate(MAIN)[14:18] == ["1", "Ties", "mini-llama", "87.5"]

        type_into(page, "#controls textarea, #controls input[placeholder]", "soup")
        page.wait_for(f"{METHODS}.length == 1")
        assert page.evaluate(MAIN)[:4] == ["3", "Model Soup", "mini-llama", "62.5"]


def test_sorting_by_a_column(filled: str) -> None:
    with browse(filled) as page:
        page.wait_for(f"{METHODS}.length == 18")
        page.evaluate("document.querySelector('#main-table [data-testid=header-3] .cell-menu-button').click()")
        ascending = "[...document.querySelectorAll('.cell-menu button')].find(b => /ascending/.test(b.innerText))"
        page.wait_for(f"!!{ascending}")
        page.evaluate(f"{ascending}.click()")
        page.wait_for(f"{HEADLINES}[0] == '12.5'")
        numbers = [float(text) for text in page.evaluate(HEADLINES)]
        assert numbers == sorted(numbers)


def type_into(page: Page, selector: str, text: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
    page.send("Input.insertText", text=text)


def test_the_page_asks_nobody_else(filled: str) -> None:
    with browse(filled) as page:
        page.wait_for(f"{METHODS}.length == 18")
        foreign = [url for url in page.requests if not url.startswith((filled, "data:", "blob:"))]
        assert foreign == []


def test_empty_board_then_a_first_result_without_reload(tmp_path: Path) -> None:
    with serve(tmp_path) as url, browse(url) as page:
        page.wait_for("/mergebench demo/.test(document.querySelector('#empty')?.innerText)")
        page.wait_for(f"{METHODS}.some(name => /published/.test(name))")
        assert page.evaluate("document.querySelector('#controls') === null")
        add(tmp_path, merge_record("ties"), *reference_records())
        page.evaluate("document.querySelector('#refresh').click()")
        page.wait_for(f"{METHODS}.length == 8")
        assert not page.evaluate("/No results|published/.test(document.body.innerText)")
        add(tmp_path, merge_record("model_soup"))
        page.wait_for(f"{METHODS}.length == 9")  # the timer's work


def status_of(url: str, **request: Any) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **request)) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file=app.py",
        "/gradio_api/file=http://127.0.0.1:1/",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/monitoring",
        "/monitoring/x",
    ],
)
def test_nothing_but_the_page_can_be_reached(filled: str, path: str) -> None:
    assert status_of(filled) == 200
    assert status_of(filled + path) in {400, 401, 403, 404}


def test_the_api_is_closed(filled: str) -> None:
    with urllib.request.urlopen(f"{filled}/gradio_api/info") as reply:
        assert json.load(reply) == {"named_endpoints": {}, "unnamed_endpoints": {}}
    body = json.dumps({"data": []}).encode()
    headers = {"Content-Type": "application/json"}
    for name in ("show_board", "predict"):
        assert status_of(f"{filled}/gradio_api/call/{name}", data=body, headers=headers) >= 400
    big = b"--x\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n" + b"a" * 5000 + b"\r\n--x--\r\n"
    upload = {"data": big, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
    assert status_of(f"{filled}/gradio_api/upload", **upload) >= 400
