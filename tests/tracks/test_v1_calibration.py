"""The calibration budget of mergebench-v1: the rows of the released code, as samples."""

from __future__ import annotations

import pytest
from datasets import Dataset
from v1_rows_calibration import PUBLISHED_ROWS

from mergebench_core.errors import InputError
from mergebench_core.tracks.mergebench_v1.calibration import CALIBRATION, NUM_SAMPLES, draw
from mergebench_core.training.prompt_format import instruction_prompt


def published(domain, num_rows):
    source = CALIBRATION[domain].source
    return PUBLISHED_ROWS[f"{source.repo}||{source.split}"](num_rows)


@pytest.mark.parametrize("num_rows", [1000, 1001, 1024, 5939, 29_980, 86_759])
def test_draw_takes_the_rows_of_the_released_code(num_rows):
    data = Dataset.from_dict({"number": range(num_rows)})
    taken = data.shuffle(seed=42).select(range(1000))["number"]
    assert draw(num_rows) == list(taken)


@pytest.mark.parametrize(("num", "seed"), [(0, 42), (1, 42), (7, 0), (20, 3)])
def test_draw_of_other_sizes_and_seeds(num, seed):
    data = Dataset.from_dict({"number": range(20)})
    assert draw(20, num, seed) == list(data.shuffle(seed=seed).select(range(num))["number"])


def test_draw_is_pinned():
    """The first rows as numpy 2 gives them: a change of its permutation would change the budget."""
    assert draw(10, 10) == [5, 6, 0, 7, 3, 2, 4, 9, 1, 8]


def test_too_few_rows_are_one_line():
    with pytest.raises(InputError, match="999 rows where 1000 are drawn") as raised:
        draw(999)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="MergeBench/math_val: 3 rows where 1000 are drawn"):
        CALIBRATION["math"].adapt(published("math", 3))


@pytest.mark.parametrize("domain", CALIBRATION)
def test_samples_are_the_drawn_rows_in_the_training_format(domain):
    rows = published(domain, 1500)
    prompt, completion = CALIBRATION[domain].source.columns
    samples = CALIBRATION[domain].adapt(rows)
    assert len(samples) == NUM_SAMPLES
    drawn = [rows[number] for number in draw(1500)]
    assert samples == [{"prompt": instruction_prompt(row[prompt]), "completion": row[completion]} for row in drawn]
    assert all(sample["prompt"].endswith("### Response:\n") for sample in samples)


def test_columns_are_those_of_the_released_loaders():
    columns = {domain: found.source.columns for domain, found in CALIBRATION.items()}
    assert columns == {
        "instruction": ("instruction", "output"),
        "math": ("query", "response"),
        "multilingual": ("inputs", "targets"),
        "coding": ("instruction", "response"),
        "safety": ("prompt", "response"),
    }
    assert all(found.domain == domain for domain, found in CALIBRATION.items())


@pytest.mark.parametrize("value", [None, 3])
def test_a_row_without_its_text_is_named(value):
    rows = published("safety", 1000)
    rows[draw(1000)[0]]["response"] = value
    with pytest.raises(
        InputError, match=f"MergeBench/safety_val: row {draw(1000)[0]} has no text in column 'resp"
    ):
        CALIBRATION["safety"].adapt(rows)


def test_rows_that_are_not_drawn_are_not_read():
    rows = published("safety", 1200)
    rows[draw(1200, 1001)[1000]]["response"] = None
    assert len(CALIBRATION["safety"].adapt(rows)) == NUM_SAMPLES
