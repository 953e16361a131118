"""Peak GPU memory from the worker to the record, the board and the screen."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from gpu_samples import LISTING, MIB, PEAK_BYTES, MadeUpDriver, sleeping
from record_samples import reference_records, sample_document, sample_record

from mergebench_core.cli.output import print_board
from mergebench_core.isolation.gpu_memory import source
from mergebench_core.results import BoardRow, row_for, to_dict
from mergebench_core.runner import MethodRun, run_method
from mergebench_core.workbench import Workbench
from mergebench_core.worker.catalog import find_method, load_catalog


@pytest.fixture
def driver(tmp_path, monkeypatch) -> Iterator[MadeUpDriver]:
    yield MadeUpDriver(tmp_path, monkeypatch)
    source.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="GPUs are given to workers on Linux only")
def test_peak_is_recorded_also_after_an_interruption(toy_track, own_home, tmp_path, driver, monkeypatch):
    """The merge is not repeated, so its meter must not be forgotten."""
    driver.says(LISTING)
    path = tmp_path / "sleeping.py"
    path.write_text(sleeping(100))
    method = find_method(load_catalog(path), "sleeping")
    monkeypatch.setattr("mergebench_core.runner.run_references", lambda bench: None)
    own_home.mkdir()
    bench = Workbench(track=toy_track, base="toy-untied", home=own_home, progress=lambda line: None)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Workbench, "evaluate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_method(bench, method)
    monkeypatch.setattr(Workbench, "evaluate", lambda *_: ({}, 0.0))
    monkeypatch.setattr(MethodRun, "_merge_winner", interrupt)
    record = run_method(bench, method)
    assert record.meters.gpu_peak_bytes == PEAK_BYTES


def row_with(peak_bytes: int | None) -> BoardRow:
    meters = {**sample_document()["meters"], "gpu_peak_bytes": peak_bytes}
    return row_for(sample_record(meters=meters, seed=peak_bytes or 0), reference_records())


@pytest.mark.parametrize("peak_bytes", [None, 0, 3 * MIB])
def test_row_of_the_board_says_it(peak_bytes):
    assert to_dict(row_with(peak_bytes))["gpu_peak_bytes"] == peak_bytes


@pytest.mark.parametrize(
    ("peaks", "ends"),
    [([None, None], ["300", "300"]), ([3 * MIB, None], ["300 3", "300 -"]), ([0, None], ["300 0", "300 -"])],
)
def test_table_shows_it_where_it_was_measured(capsys, peaks, ends):
    print_board([row_with(peak) for peak in peaks], ["math"])
    out = capsys.readouterr().out
    assert ("GPU MiB" in out) == any(peak is not None for peak in peaks)
    lines = [" ".join(line.split()) for line in out.splitlines() if " 300" in line]
    assert all(line.endswith(f"12.50 {end}") for line, end in zip(lines, ends, strict=True))
