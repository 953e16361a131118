"""Splits on the Hub: only what is asked for is fetched, and what fails is told as what it is."""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest
from hub_world import published_rows, write_dataset
from test_v1_fetching import GSM8K, SMALL_CALIBRATION, data, hub, large_files, refused

from mergebench_core.tracks.mergebench_v1.item_sets import HubSource
from mergebench_core.tracks.mergebench_v1.preparation import sources
from mergebench_core.tracks.mergebench_v1.published_files import CHANGED, read_rows

__all__ = ["data", "hub"]
ALONE = {
    ("cais/mmlu", "test"): "all/test-00000-of-00001.parquet",
    ("cais/mmlu", "validation"): "all/validation-00000-of-00001.parquet",
    ("cais/mmlu", "dev"): "all/dev-00000-of-00001.parquet",
    ("mandarjoshi/trivia_qa", "validation"): "rc.nocontext/validation-00000-of-00001.parquet",
    ("rajpurkar/squad_v2", "validation"): "squad_v2/validation-00000-of-00001.parquet",
    ("wmt/wmt14", "test"): "fr-en/test-00000-of-00001.parquet",
}
"""Files as the Hub has them, where other splits of the configuration are much larger."""
SPLITS = [source for source in sources() if isinstance(source, HubSource) and source.file]
WMT14 = next(source for source in SPLITS if source.repo == "wmt/wmt14")


@pytest.fixture
def split(hub, tmp_path, request):
    """A split beside another that nothing can read; its source, its rows and its commit."""
    source = request.param
    folder, _, name = source.file.partition("/")
    assert name == f"{source.split}-00000-of-00001.parquet"
    rows = published_rows()[f"{source.repo}|{source.config or ''}|{source.split}"](4)
    write_dataset(tmp_path / "published", {(folder, source.split): rows, (folder, "train"): []})
    return source, rows, hub.add("dataset", source.repo, tmp_path / "published")


def test_files_that_are_fetched_alone():
    assert {(source.repo, source.split): source.file for source in SPLITS} == ALONE


@pytest.mark.parametrize("split", SPLITS, ids=lambda source: f"{source.repo}-{source.split}", indirect=True)
def test_a_split_is_fetched_without_the_larger_ones(hub, split, tmp_path):
    source, rows, revision = split
    found = read_rows(source, revision, tmp_path)
    assert found == [{column: row[column] for column in source.columns} for row in rows]
    assert [line.rpartition("/")[2] for line in large_files(hub)] == [source.file.rpartition("/")[2]]
    assert not (tmp_path / "arrow").exists()


@pytest.mark.parametrize("split", [WMT14], indirect=True)
def test_a_split_that_was_fetched_is_read_offline_at_its_own_revision(split, tmp_path, monkeypatch):
    from huggingface_hub import constants

    source, _, revision = split
    rows = read_rows(source, revision, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert read_rows(source, revision, tmp_path) == rows
    line = refused(read_rows, source, "b" * 40, tmp_path)
    assert line.startswith("data set wmt/wmt14/fr-en/test: not in the local cache, and HF_HUB_OFFLINE forbids")


@pytest.mark.parametrize("split", [WMT14], indirect=True)
def test_a_file_that_is_gone_or_out_of_form(hub, split, tmp_path):
    source, _, revision = split
    gone = dataclasses.replace(source, file="fr-en/gone.parquet")
    line = refused(read_rows, gone, revision, tmp_path)
    assert line == f"data set wmt/wmt14/fr-en/test: no file 'fr-en/gone.parquet'; {CHANGED}"
    broken = dataclasses.replace(source, file="fr-en/train-00000-of-00001.parquet")
    line = refused(read_rows, broken, revision, tmp_path)
    assert line.startswith("data set wmt/wmt14/fr-en/test: ")
    assert "Parquet" in line
    assert line.endswith(CHANGED)
    other = dataclasses.replace(source, columns=("text",))
    line = refused(read_rows, other, revision, tmp_path)
    assert line == f"wmt/wmt14/fr-en/test: no column 'text' among translation; {CHANGED}"


@pytest.mark.parametrize("split", [WMT14], indirect=True)
def test_a_closed_or_missing_repository_of_such_a_file(hub, split, tmp_path):
    source, _, revision = split
    assert "no such revision" in refused(read_rows, source, "b" * 40, tmp_path)
    gone = dataclasses.replace(source, repo="owner/gone")
    assert "no such repository" in refused(read_rows, gone, revision, tmp_path)
    hub.gated.add(source.repo)
    assert "accept terms first" in refused(read_rows, source, revision, tmp_path)


DISK = [
    (errno.ENOSPC, "no room on the disk: /cache/x; free some room, or set HF_HOME to another disk"),
    (errno.EIO, f"{os.strerror(errno.EIO)}: /cache/x"),
]


def failing(code):
    """Return a function that fails as the disk does."""

    def fail(*_, **__):
        raise OSError(code, os.strerror(code), "/cache/x")

    return fail


@pytest.mark.parametrize(("code", "told"), DISK)
def test_a_disk_that_fails_while_rows_are_converted(data, tmp_path, monkeypatch, code, told):
    """`datasets` hides it in an error about the data."""
    from datasets.arrow_writer import ArrowWriter

    monkeypatch.setattr(ArrowWriter, "write_table", failing(code))
    line = refused(read_rows, GSM8K, data.commit_of("dataset", GSM8K.repo), tmp_path)
    assert line == f"data set openai/gsm8k/main/test: {told}"


@pytest.mark.parametrize(("code", "told"), DISK)
def test_a_disk_that_fails_while_a_file_is_written(hub, tmp_path, monkeypatch, code, told):
    from huggingface_hub import file_download

    rows = published_rows()["wmt/wmt14|fr-en|test"](2)
    write_dataset(tmp_path / "published", {("fr-en", "test"): rows})
    revision = hub.add("dataset", WMT14.repo, tmp_path / "published")
    monkeypatch.setattr(file_download, "http_get", failing(code))
    assert refused(read_rows, WMT14, revision, tmp_path) == f"data set wmt/wmt14/fr-en/test: {told}"


def test_rows_that_cannot_be_converted_say_why(data, tmp_path, monkeypatch):
    """Not `An error occurred while generating the dataset`, which is all that the outer error says."""
    from datasets.arrow_writer import ArrowWriter

    def fail(*_, **__):
        raise ValueError("a row of\ntwo lengths") from KeyError("innermost")

    monkeypatch.setattr(ArrowWriter, "write_table", fail)
    line = refused(read_rows, GSM8K, data.commit_of("dataset", GSM8K.repo), tmp_path)
    assert line == f"data set openai/gsm8k/main/test: 'innermost'; {CHANGED}"


def test_files_that_cannot_be_converted_say_why(hub, tmp_path):
    source = SMALL_CALIBRATION["math"].source
    write_dataset(tmp_path / "published", {(None, "train"): []})
    revision = hub.add("dataset", source.repo, tmp_path / "published")
    line = refused(read_rows, source, revision, tmp_path)
    assert line.startswith("data set MergeBench/math_val/train: ")
    assert "Parquet" in line
    assert line.endswith(CHANGED)
