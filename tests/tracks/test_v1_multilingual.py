"""M_MMLU, M_ARC, M_HellaSwag and LAMBADA of mergebench-v1, through lm-eval's evaluator."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import yaml
from answering_model import AnsweringModel, evaluate
from v1_rows_multilingual import PUBLISHED_ROWS, arc_rows, hellaswag_rows, lambada_rows, mmlu_rows

from mergebench_core.tracks.mergebench_v1.sets import multilingual
from mergebench_core.tracks.mergebench_v1.sets.multilingual import (
    LANGUAGES,
    SETS,
    TASKS,
    adapt_arc,
    adapt_hellaswag,
    adapt_lambada,
    adapt_mmlu,
)
from mergebench_core.tracks.mergebench_v1.tasks import loading

TASK_FOLDER = Path(loading.__file__).parent
DATA = Path(os.environ.get("MERGEBENCH_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
NUM_ROWS = 6
CHOICE_SETS = [item_set for item_set in SETS if item_set.name != "lambada"]


def real_rows(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there; set MERGEBENCH_DATA")
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


def rows_of(item_set, num_rows):
    source = item_set.sources[0]
    return PUBLISHED_ROWS[f"{source.repo}|{source.config}|{source.split}"](num_rows)


def write_items(folder, name, items):
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def own_task(name, folder):
    """The arguments of lm-eval's own task on raw rows: its functions, its templates."""
    path = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks" / "okapi" / folder / "utils.py"
    spec = importlib.util.spec_from_file_location(f"own_{folder}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.process_docs


@pytest.mark.parametrize("item_set", CHOICE_SETS, ids=lambda item_set: item_set.name)
def test_the_right_choice_scores_one_and_any_other_nothing(item_set, tmp_path):
    items = item_set.adapt(rows_of(item_set, NUM_ROWS))
    assert len(items) == NUM_ROWS
    write_items(tmp_path, item_set.name, items)
    right = AnsweringModel(lambda item: item["label"])
    results, samples = evaluate(item_set.name, TASK_FOLDER, tmp_path, right)
    assert results["acc,none"] == 1.0
    assert results.get("acc_norm,none", 1.0) == 1.0
    assert [sample["doc"]["id"] for sample in samples] == [item["id"] for item in items]
    wrong = AnsweringModel(lambda item: (item["label"] + 1) % len(item["choices"]))
    results, _ = evaluate(item_set.name, TASK_FOLDER, tmp_path, wrong)
    assert results["acc,none"] == results.get("acc_norm,none", 0.0) == 0.0


def test_acc_norm_divides_by_the_length_of_the_choice(tmp_path):
    """A long right choice of -9 over 30 letters loses to a short one of -5 over 5, but wins per letter."""
    row = arc_rows("de", 1)[0] | {"option_a": "a" * 30, "option_b": "b" * 5, "answer": "A"}
    write_items(tmp_path, "m_arc_de", adapt_arc([row]))

    class Model(AnsweringModel):
        def _likelihood(self, request):
            return {0: -9.0, 1: -5.0}.get(request.idx, -99.0), False

    results, _ = evaluate("m_arc_de", TASK_FOLDER, tmp_path, Model(lambda item: 0))
    assert (results["acc,none"], results["acc_norm,none"]) == (0.0, 1.0)


def test_mmlu_prompt_is_that_of_lm_eval(tmp_path):
    rows = mmlu_rows("es", 3)
    write_items(tmp_path, "m_mmlu_es", adapt_mmlu(rows))
    model = AnsweringModel(lambda item: 0)
    evaluate("m_mmlu_es", TASK_FOLDER, tmp_path, model)
    folder = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks" / "okapi" / "mmlu_multilingual"
    own = yaml.safe_load((folder / "_default_yaml").read_text(encoding="utf-8"))
    from jinja2 import Template

    prompts = [Template(own["doc_to_text"]).render(**row) for row in rows]
    expected = [(prompt, f" {letter}") for prompt in prompts for letter in own["doc_to_choice"]]
    assert [request.args for request in model.requests] == expected


@pytest.mark.parametrize("rows", [arc_rows("ru", 60), "fr", "de"], ids=["made-up", "fr", "de"])
def test_arc_prompts_are_those_of_lm_eval(rows):
    from datasets import Dataset

    rows = real_rows(f"m_arc/{rows}_test.json") if isinstance(rows, str) else rows
    options = [f"option_{letter}" for letter in "abcde"]
    full = [{**dict.fromkeys(options), **row} for row in rows]
    own = own_task("arc", "arc_multilingual")(Dataset.from_list(full))
    items = adapt_arc(rows)
    assert [item["prompt"] for item in items] == own["query"]
    assert [item["choices"] for item in items] == own["choices"]
    assert [item["label"] for item in items] == own["gold"]
    assert all(choice for item in items for choice in item["choices"]), "a choice without letters has no acc_norm"
    assert {len(item["choices"]) for item in items} == {3, 4, 5}


def test_hellaswag_prompts_are_those_of_lm_eval():
    from datasets import Dataset

    rows = hellaswag_rows("ru", 9)
    own = own_task("hellaswag", "hellaswag_multilingual")(Dataset.from_list(rows))
    items = adapt_hellaswag(rows)
    assert [(item["prompt"], item["choices"], item["label"]) for item in items] == list(
        zip(own["query"], own["choices"], own["gold"], strict=True)
    )
    assert "[" not in "".join(items[1]["choices"]) + items[1]["prompt"]


def test_real_arc_scores_through_the_evaluator(tmp_path):
    items = adapt_arc(real_rows("m_arc/fr_test.json"))
    assert len(items) == 1169
    write_items(tmp_path, "m_arc_fr", items)
    results, _ = evaluate("m_arc_fr", TASK_FOLDER, tmp_path, AnsweringModel(lambda item: item["label"]))
    assert (results["acc,none"], results["acc_norm,none"]) == (1.0, 1.0)


def test_one_question_is_one_cluster_in_every_language():
    clusters = [{item["cluster"] for item in adapt_mmlu(mmlu_rows(language, 8))} for language in LANGUAGES]
    assert clusters[0] == clusters[1] == clusters[2] == clusters[3]
    french, german = (adapt_arc(real_rows(f"m_arc/{language}_test.json")) for language in ("fr", "de"))
    assert {item["cluster"] for item in french} == {item["cluster"] for item in german}


def test_a_repeated_id_gets_a_number_and_keeps_its_cluster():
    row = mmlu_rows("fr", 1)[0]
    items = adapt_mmlu([row, row, row])
    assert [item["id"].removeprefix(row["id"]) for item in items] == ["", "#2", "#3"]
    assert {item["cluster"] for item in items} == {row["id"]}


@pytest.mark.parametrize(
    ("adapt", "row", "message"),
    [
        (adapt_mmlu, mmlu_rows("fr", 1)[0] | {"answer": "E"}, "choice 5 of 4"),
        (adapt_mmlu, mmlu_rows("fr", 1)[0] | {"answer": "1"}, "no letter"),
        (adapt_mmlu, mmlu_rows("fr", 1)[0] | {"answer": "AB"}, "no letter"),
        (adapt_mmlu, mmlu_rows("fr", 1)[0] | {"instruction": None}, "'instruction' is no text"),
        (adapt_arc, arc_rows("fr", 2)[1] | {"answer": "D"}, "choice 4 of 3"),
        (adapt_hellaswag, hellaswag_rows("fr", 1)[0] | {"label": "4"}, "choice 5 of 4"),
        (adapt_hellaswag, hellaswag_rows("fr", 1)[0] | {"label": ""}, "no number"),
        (adapt_hellaswag, hellaswag_rows("fr", 1)[0] | {"endings": [{"fr": "a"}] * 4}, "no texts"),
        (adapt_lambada, {"text": "alone"}, "no last word"),
        (adapt_lambada, {"text": "ends with a space "}, "no last word"),
    ],
)
def test_a_row_out_of_form_is_named(adapt, row, message):
    with pytest.raises(ValueError, match=message) as caught:
        adapt([row])
    assert "row 0" in str(caught.value)


def test_lambada_scores_the_last_word(tmp_path):
    rows = real_rows("lambada/lambada_test_500.jsonl")
    items = adapt_lambada(rows)
    assert [item["prompt"] + item["continuation"] for item in items] == [row["text"] for row in rows]
    assert all(item["continuation"].count(" ") == 1 for item in items)
    write_items(tmp_path, "lambada", items)
    model = AnsweringModel(lambda item: item["continuation"])
    results, _ = evaluate("lambada", TASK_FOLDER, tmp_path, model)
    assert results["acc,none"] == 1.0
    assert [prompt + last for prompt, last in (request.args for request in model.requests)] == [
        row["text"] for row in rows
    ]
    results, _ = evaluate("lambada", TASK_FOLDER, tmp_path, AnsweringModel(lambda item: "elsewhere"))
    assert results["acc,none"] == 0.0


def test_lambada_keeps_500_that_do_not_depend_on_their_number():
    items = adapt_lambada(lambada_rows(5153))
    assert len(items) == multilingual.NUM_SURROGATE_ITEMS
    assert len({item["id"] for item in items}) == 500
    assert [item["id"] for item in items] == sorted((item["id"] for item in items), key=int)


def test_counts_and_yaml_agree():
    sizes = {item_set.name: item_set.num_items for item_set in SETS}
    assert [(task.name, task.num_items) for task in TASKS] == [
        ("m_mmlu", 52_690),
        ("m_arc", 4_677),
        ("m_hellaswag", 37_352),
        ("lambada", 500),
    ]
    for task in TASKS:
        assert sum(sizes[part] for part in task.part_names) == task.num_items
    for item_set in SETS:
        settings = yaml.safe_load((TASK_FOLDER / f"{item_set.name}.yaml").read_text().replace("!function ", ""))
        assert settings["task"] == settings["dataset_kwargs"]["items"] == item_set.name
        assert settings["dataset_kwargs"].get("num_lite_items") == item_set.num_lite_items
    assert sum(item_set.num_lite_items for item_set in CHOICE_SETS) == 3_000


@pytest.mark.parametrize("item_set", SETS, ids=lambda item_set: item_set.name)
def test_the_made_up_rows_have_every_column_that_is_read(item_set):
    for row in rows_of(item_set, 3):
        assert set(item_set.sources[0].columns) <= set(row)
