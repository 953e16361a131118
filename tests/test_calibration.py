"""The calibration budget: what is handed out, counted and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergebench_core.calibration import CalibrationReader
from mergebench_core.errors import BudgetError, InputError
from mergebench_core.tracks.track import EvaluationSettings, Track

NUM_ROWS, BUDGET = 6, 8


def write_rows(folder: Path, domain: str, texts: list[str]) -> None:
    rows = [json.dumps({"prompt": text, "completion": "c"}, ensure_ascii=False) for text in texts]
    (folder / f"{domain}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def reader(tmp_path) -> CalibrationReader:
    for domain in ("math", "coding"):
        write_rows(tmp_path, domain, [f"{domain} {i}" for i in range(NUM_ROWS)])
    return CalibrationReader(
        Track(
            name="sample",
            title="Sample",
            domains=("math", "coding"),
            bases={},
            tasks=(),
            task_folder=tmp_path,
            calibration_folder=tmp_path,
            num_calibration_samples=BUDGET,
            max_validations=1,
            evaluation=EvaluationSettings(batch_size=1, max_length=1, num_threads=1),
            file_digests={},
            folder=tmp_path,
        )
    )


def prompts(rows) -> list[str]:
    return [row["prompt"] for row in rows]


def test_range_of_samples_and_fewer_at_the_end(reader):
    assert prompts(reader.samples("math", 1, 2)) == ["math 1", "math 2"]
    assert prompts(reader.samples("math", 5, 3)) == ["math 5"]
    assert reader.samples("math", 7, 1) == []
    assert reader.samples("math", 0, 0) == []


def test_distinct_samples_are_counted_by_domain(reader):
    assert reader.num_read() == {}
    reader.samples("math", 0, 3)
    reader.samples("math", 2, 2)
    reader.samples("math", 0, 3)
    reader.samples("coding", 5, 3)
    assert reader.num_read() == {"coding": 1, "math": 4}


def test_beyond_the_budget(reader):
    reader.samples("math", 0, BUDGET)
    for start, count in ((0, BUDGET + 1), (BUDGET, 1), (3, 6)):
        with pytest.raises(BudgetError, match="more than 8 calibration samples of domain 'math'"):
            reader.samples("math", start, count)
    assert reader.num_read() == {"math": NUM_ROWS}


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, -1), (3, -2)])
def test_negative_range(reader, start, count):
    with pytest.raises(InputError, match="give a range from 0 on"):
        reader.samples("math", start, count)


def test_unknown_domain(reader):
    with pytest.raises(InputError, match="unknown domain 'codin': did you mean 'coding'"):
        reader.samples("codin", 0, 1)


def test_path_as_domain_is_no_door(reader):
    with pytest.raises(InputError, match="unknown domain"):
        reader.samples("../math", 0, 1)


def test_line_separators_within_a_text(reader, tmp_path):
    texts = ["one\u2028two", "three\x85four\x0bfive", "six\nseven"]
    write_rows(tmp_path, "math", texts)
    assert prompts(reader.samples("math", 0, 5)) == texts
