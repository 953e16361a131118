"""Output of the released scripts as a record: every number, its direction, and nothing that is not there."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from import_samples import LANGUAGES, Documents, documents, write_folder

from mergebench_core import store
from mergebench_core.cli.importing import import_results, print_elsewhere
from mergebench_core.errors import InputError, StoreError
from mergebench_core.imports.files import base_of, method_of
from mergebench_core.imports.importing import import_folder, record_of
from mergebench_core.imports.mapping import BASES, GENERAL_TASKS, RELEASED_TASKS, tasks_by_domain
from mergebench_core.published import PUBLISHED_WORLD, load_paper, published_rows
from mergebench_core.records import ImportedRecord, parse_any_record, parse_record
from mergebench_core.results import row_for
from mergebench_core.tracks.registry import load_track

DATA = Path(os.environ.get("MERGEBENCH_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
RELEASED = DATA / "published_regmeanpp" / "Llama-3.2-3B"
TEST_TASKS = [task.task for task in RELEASED_TASKS]


def read(folder: Path, **given: Any) -> ImportedRecord:
    return record_of(folder, **{"base": None, "method": None, "config": None, **given})


def changed(folder: Path, change: Callable[[Documents], object]) -> Path:
    files = documents()
    change(files)
    return write_folder(folder, files)


def refusal(folder: Path, **given: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, **given)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def test_scores_by_hand(tmp_path: Path) -> None:
    record = read(write_folder(tmp_path / "run"))
    assert {task: part.score for task, part in record.tasks.items()} == {
        "ifeval": 0.25,
        "gsm8k": 0.625,
        "math": 0.125,
        "m_mmlu": 0.4375,  # (0.25 + 0.375 + 0.5 + 0.625) / 4
        "m_arc": 0.5,
        "m_hellaswag": 0.75,
        "humaneval_plus": 0.25,
        "mbpp_plus": 0.375,
        "wildguardtest": 0.75,  # 1 - 0.25
        "harmbench": 0.625,
        "do_anything_now": 0.875,
        "xstest": 0.875,
    }
    assert record.unknown_keys == ()
    assert list(record.missing_tasks) == list(GENERAL_TASKS)
    assert record.tasks["gsm8k"].other_metrics["gsm8k_cot/exact_match,strict-match"] == 0.5
    assert {task: part.num_items for task, part in record.tasks.items() if part.num_items} == {
        "ifeval": 100, "gsm8k": 100, "math": 200, "m_mmlu": 400, "m_arc": 400, "m_hellaswag": 400,
    }  # fmt: skip


def test_what_the_files_say_of_themselves(tmp_path: Path) -> None:
    record = read(write_folder(tmp_path / "run"))
    assert (record.base_model, record.method, record.config) == ("gemma-2-2b-it", "ties", None)
    assert record.versions == {
        "lm_eval": "0.4.9.1", "transformers": "4.57.1", "torch": "2.8.0+cu128", "python": "3.10.9",
    }  # fmt: skip
    assert (record.engine, record.chat_template) == ("vllm", "none")
    assert record.decoding == {"temperature": 0.2, "top_p": 0.95, "n_samples": 10, "precision": "bf16"}
    silent = read(changed(tmp_path / "b", lambda files: files.pop("lm_eval.json")))
    assert (silent.engine, silent.chat_template, silent.versions) == (None, None, {})
    template = {"chat_template": "{{ messages }}", "chat_template_sha": "ab" * 32}
    told = read(changed(tmp_path / "c", lambda files: files["lm_eval.json"].update(template)))
    assert told.chat_template == "ab" * 32


def test_directions_are_said(tmp_path: Path) -> None:
    record = read(write_folder(tmp_path / "run"))
    notes = {task: part.notes for task, part in record.tasks.items() if part.notes}
    assert set(notes) == {"math", "wildguardtest", "harmbench", "do_anything_now"}
    assert notes["wildguardtest"] == ("score is 1 - harm rate",)
    assert notes["do_anything_now"] == ("score is 1 - attack success rate",)
    assert "extraction differs" in notes["math"][0]
    assert record.tasks["harmbench"].metric == "1 - micro ASR (lower)"


@pytest.mark.parametrize("task", ["wildguardtest", "harmbench", "do_anything_now"])
def test_a_refusal_rate_is_taken_before_a_harm_rate(tmp_path: Path, task: str) -> None:
    record = read(
        changed(tmp_path / "run", lambda files: files["safety_eval.json"][task].update(inverted_rta=0.3))
    )
    part = record.tasks[task]
    assert (part.score, part.metric, part.notes) == (0.7, "1 - inverted_rta", ())
    assert record.unknown_keys == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_missing_language_makes_the_task_missing(tmp_path: Path, language: str) -> None:
    record = read(
        changed(tmp_path / "run", lambda files: files["lm_eval.json"]["results"].pop(f"m_mmlu_{language}"))
    )
    assert "m_mmlu" not in record.tasks
    assert record.missing_tasks["m_mmlu"] == f"lm_eval.json has no m_mmlu_{language}/acc,none"


PRIMARY_KEYS = [
    ("lm_eval.json", "ifeval", "prompt_level_strict_acc,none", "ifeval"),
    ("lm_eval.json", "gsm8k_cot", "exact_match,flexible-extract", "gsm8k"),
    ("lm_eval.json", "arc_de", "acc_norm,none", "m_arc"),
    ("lm_eval.json", "hellaswag_ru", "acc_norm,none", "m_hellaswag"),
    ("code_eval.json", "humanevalplus", "pass@1", "humaneval_plus"),
    ("code_eval.json", "mbppplus", "pass@1", "mbpp_plus"),
    ("safety_eval.json", "wildguardtest", "micro harm (lower)", "wildguardtest"),
    ("safety_eval.json", "harmbench", "micro ASR (lower)", "harmbench"),
    ("safety_eval.json", "do_anything_now", "macro ASR", "do_anything_now"),
    ("safety_eval.json", "xstest", "overall_accuracy", "xstest"),
]


@pytest.mark.parametrize(("file", "name", "key", "task"), PRIMARY_KEYS)
def test_no_other_key_stands_in_for_a_missing_one(
    tmp_path: Path, file: str, name: str, key: str, task: str
) -> None:
    def drop(files: Documents) -> None:
        results = files[file].get("results", files[file])
        del results[name][key]

    record = read(changed(tmp_path / "run", drop))
    assert set(TEST_TASKS) - set(record.tasks) == {task}
    assert f"{name}/{key}" in record.missing_tasks[task]
    assert record.unknown_keys == ()


@pytest.mark.parametrize("file", ["lm_eval.json", "code_eval.json", "safety_eval.json"])
def test_any_subset_of_the_files(tmp_path: Path, file: str) -> None:
    record = read(changed(tmp_path / "run", lambda files: files.pop(file)), base="gemma-2-2b-it", method="ties")
    absent = {task.task for task in RELEASED_TASKS if task.file == file}
    assert set(record.tasks) == set(TEST_TASKS) - absent
    assert {record.missing_tasks[task] for task in absent} == {f"no {file}"}
    assert file not in record.sources


def test_unknown_keys_are_reported_and_not_used(tmp_path: Path) -> None:
    def add(files: Documents) -> None:
        files["lm_eval.json"]["results"]["truthfulqa_fr"] = {"alias": "x", "acc,none": 7.0, "acc_stderr,none": 1}
        files["lm_eval.json"]["results"]["ifeval"]["final_acc,none"] = 0.9
        files["code_eval.json"]["humaneval"] = {"pass@1": 0.9}
        files["safety_eval.json"]["xstest"]["new"] = {"deep": {"er": "text"}}

    record = read(changed(tmp_path / "run", add))
    assert record.unknown_keys == (
        "lm_eval.json: ifeval/final_acc,none",
        "lm_eval.json: truthfulqa_fr/acc,none",
        "code_eval.json: humaneval/pass@1",
        "safety_eval.json: xstest/new/deep/er",
    )
    untouched = read(write_folder(tmp_path / "other"))
    assert record.tasks == untouched.tasks


def test_a_part_of_the_items_is_noted(tmp_path: Path) -> None:
    count = {"original": 1319, "effective": 50}
    record = read(
        changed(tmp_path / "run", lambda files: files["lm_eval.json"]["n-samples"].update(gsm8k_cot=count))
    )
    assert (record.tasks["gsm8k"].num_items, record.tasks["gsm8k"].notes) == (50, ("scored on 50 of 1319 items",))


@pytest.mark.parametrize("value", [1.5, -0.1, True, "0.5", None, [0.5], 25, 10**400])
def test_what_is_no_score_is_refused(tmp_path: Path, value: object) -> None:
    for place, (file, name, key) in enumerate(
        [("lm_eval.json", "ifeval", "prompt_level_strict_acc,none"), ("code_eval.json", "mbppplus", "pass@10")]
    ):

        def put(files: Documents, file: str = file, name: str = name, key: str = key) -> None:
            files[file].get("results", files[file])[name][key] = value

        text = refusal(changed(tmp_path / f"run{place}", put))
        assert f"{name}/{key}" in text
        assert "between 0 and 1" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"humanevalplus": {"pass@1": NaN}}', "NaN"),
        (b'{"humanevalplus": {"pass@1": -Infinity}}', "-Infinity"),
        (b'{"humanevalplus": {"pass@1": 1e999}}', "between 0 and 1"),
        (b'{"humanevalplus": {"pass@1": 0.5}', "damaged"),
        (b"", "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[1, 2]", "no JSON object"),
        (b'{"bad\\ud800key": {"pass@1": 0.5}}', "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"humanevalplus": {"pass@1": 0.5, "pass@1": 0.9}}', "'pass@1' stands there twice"),
        (b'{"config": []}', "'config' is no object"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    folder = write_folder(tmp_path / "run")
    (folder / "code_eval.json").write_bytes(content)
    text = refusal(folder)
    assert words in text
    assert "code_eval.json" in text


def test_deep_nesting_is_an_unknown_key(tmp_path: Path) -> None:
    nested: dict[str, Any] = {}
    for _ in range(900):
        nested = {"a": nested}
    record = read(changed(tmp_path / "run", lambda files: files["safety_eval.json"].update(deep=nested)))
    assert len(record.unknown_keys) == 1


def test_folders_without_results_are_one_line(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "holds none of" in refusal(tmp_path / "empty")
    only_unknown = write_folder(tmp_path / "unknown", {"code_eval.json": {"other": {"pass@1": 0.5}}})
    assert "none of its results" in refusal(only_unknown, base="gemma-2-2b", method="ties")


def test_a_task_of_the_other_direction_is_refused(tmp_path: Path) -> None:
    direction = {"ifeval": {"prompt_level_strict_acc": False}}
    folder = changed(tmp_path / "run", lambda files: files["lm_eval.json"].update(higher_is_better=direction))
    assert "lower is better" in refusal(folder)


def test_impossible_counts_are_one_line(tmp_path: Path) -> None:
    for number in (-5, 5_000_000_000):  # more than the store's column holds
        count = {"ifeval": {"original": number, "effective": number}}
        text = refusal(
            changed(tmp_path / "run", lambda files, c=count: files["lm_eval.json"]["n-samples"].update(c))
        )
        assert "num_items" in text


def test_an_engine_is_a_name(tmp_path: Path) -> None:
    """It becomes part of a world's name and is printed."""
    for source in ("[/nope]", "\x1b[31m", "x" * 200):
        folder = changed(tmp_path / "run", lambda files, s=source: files["lm_eval.json"].update(model_source=s))
        assert "engine" in refusal(folder)


def test_groups_and_results_agree(tmp_path: Path) -> None:
    def contradict(files: Documents) -> None:
        files["lm_eval.json"]["groups"] = {
            "ifeval": dict.fromkeys(files["lm_eval.json"]["results"]["ifeval"], 0.9)
        }

    text = refusal(changed(tmp_path / "run", contradict))
    assert "is 0.9 in 'groups' and " in text


def test_base_and_method_come_from_the_paths_or_are_asked_for(tmp_path: Path) -> None:
    safety = write_folder(tmp_path / "safety", {"safety_eval.json": documents()["safety_eval.json"]})
    assert "--base" in refusal(safety)
    assert "--method" in refusal(safety, base="gemma-2-2b")
    assert read(safety, base="gemma-2-2b", method="my_method").method == "my_method"
    with pytest.raises(InputError, match=r"unknown base 'Llama-3\.2-3B': did you mean 'llama-3\.2-3b'"):
        read(safety, base="Llama-3.2-3B")
    run = write_folder(tmp_path / "run")
    assert "names gemma-2-2b-it, --base is gemma-2-2b" in refusal(run, base="gemma-2-2b")
    assert read(run, method="dare").method == "dare"
    assert "method" in refusal(run, method="no name")

    def elsewhere(files: Documents) -> None:
        files["code_eval.json"]["config"]["model"] = "out/Llama-3.1-8B_merged/TIES"

    mixed = changed(tmp_path / "mixed", elsewhere)
    assert "code_eval.json names llama-3.1-8b" in refusal(mixed)


@pytest.mark.parametrize(
    ("path", "base", "method"),
    [
        ("merged_models/Llama-3.2-3B_merged/RegMeanPlusPlus_task_names_A-B_reduction_0.1", "llama-3.2-3b",
         "regmean_plus_plus"),
        ("/data/gemma-2-9b-it_merged/RegMean_task_names_A-B_reduction_0.5", "gemma-2-9b-it", "regmean"),
        ("merged_models/gemma-2-2b_merged/TaskArithmetic_scaling_coef_0.2", "gemma-2-2b", None),
        ("merged_models/gemma-2-2b_merged/LocalizeAndStitch_sparsity_0.1", "gemma-2-2b", None),
        ("merged_models/gemma-2-2b_merged/RegMean_p_0.9_scaling_coef_0.4", "gemma-2-2b", None),
        ("merged_models/gemma-2-2b_merged/TIESlike", "gemma-2-2b", None),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct", None),
        ("MergeBench/Llama-3.1-8B_math", None, None),
    ],
)  # fmt: skip
def test_paths(path: str, base: str | None, method: str | None) -> None:
    assert (base_of(path), method_of(path)) == (base, method)


def test_the_same_folder_is_imported_once(tmp_path: Path) -> None:
    folder, home = write_folder(tmp_path / "run"), tmp_path / "home"
    first = import_folder(folder, home=home)
    text = first.path.read_bytes()
    again = import_folder(folder, home=home)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.record == first.record
    assert first.path.read_bytes() == text
    assert first.path == store.record_path(home, first.record.job_id)
    import_folder(folder, home=home, config={"density": 0.3})
    with store.open_snapshot(home / store.BOARD_NAME) as connection:
        found = connection.execute("SELECT config FROM runs ORDER BY config NULLS FIRST").fetchall()
    assert found == [(None,), ('{"density": 0.3}',)]


def test_a_damaged_record_is_written_again(tmp_path: Path) -> None:
    folder, home = write_folder(tmp_path / "run"), tmp_path / "home"
    first = import_folder(folder, home=home)
    first.path.write_text("{", encoding="utf-8")
    assert import_folder(folder, home=home).is_new
    assert parse_any_record(first.path.read_text(encoding="utf-8"), first.path) == first.record.model_copy(
        update={"created_at": parse_any_record(first.path.read_text(), first.path).created_at}
    )


def test_the_record_is_plain_json_and_no_run(tmp_path: Path) -> None:
    record = read(write_folder(tmp_path / "run"))
    assert next(iter(json.loads(record.to_json()))) == "schema_version"
    assert parse_any_record(record.to_json(), tmp_path) == record
    with pytest.raises(StoreError, match="not a run record"):
        parse_record(record.to_json(), tmp_path)
    for extra in ({"tier": "measured"}, {"runtime": {}}, {"seed": 0}):
        with pytest.raises(StoreError, match="Extra inputs"):
            parse_any_record(json.dumps(json.loads(record.to_json()) | extra), tmp_path)


def command(*arguments: object) -> None:
    app = typer.Typer(add_completion=False)
    app.command("import")(import_results)
    app([str(argument) for argument in arguments], standalone_mode=False)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], own_home: Path) -> None:
    def change(files: Documents) -> None:
        files["code_eval.json"]["x\x1b[31m"] = {"pass@1": 0.9}
        del files["safety_eval.json"]

    folder = changed(tmp_path / "run", change)
    command(folder, "--config", "density=0.3", "--config", "sign=total")
    said = capsys.readouterr()
    assert "unknown key: code_eval.json: x?[31m/pass@1" in said.err
    assert "missing: wildguardtest, harmbench, do_anything_now, xstest (no safety_eval.json)" in said.err
    assert "note: math: extraction differs" in said.err
    assert "62.5" in said.out
    assert "never ranked" in said.out
    assert len(list(own_home.glob("runs/*/record.json"))) == 1
    command(folder, "--method", "dare")
    assert "note: the files name the method ties; kept as dare" in capsys.readouterr().err
    command(folder, "--config", "density=0.3", "--config", "sign=total", "--json")
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["config"]) == ("import", {"density": 0.3, "sign": "total"})
    for wrong in ("density", "=1", "density="):
        with pytest.raises(InputError, match="--config name=value"):
            command(folder, "--config", wrong)
    with pytest.raises(InputError, match="given twice"):
        command(folder, "--config", "a=1", "--config", "a=2")


def test_tables_of_imports_and_of_the_paper_stand_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_elsewhere([row_for(read(write_folder(tmp_path / "run")), []), *published_rows()])
    said = capsys.readouterr().out
    imports, paper = said.split(PUBLISHED_WORLD)
    assert "self-reported" in imports
    assert "ties (incomplete)" in imports
    assert "37.5" in imports
    assert "68.4 / 99.3" in paper  # Fisher on gemma-2-2b
    assert "106.5 / 101.3" in paper  # Consensus TA on gemma-2-9b-it
    assert len([line for line in paper.splitlines() if " / " in line]) == 9 + 1
    assert "not measured here" in paper


def test_the_table_of_keys_agrees_with_the_paper() -> None:
    assert {result.base_model for result in load_paper().results} == set(BASES)
    assert {domain: len(tasks) for domain, tasks in tasks_by_domain().items()} == {
        "instruction": 1, "math": 2, "multilingual": 3, "coding": 2, "safety": 4,
    }  # fmt: skip


def test_names_are_those_of_the_track() -> None:
    track = load_track("mergebench-v1")
    found = {
        domain: {task.name for task in track.tasks_for("test", domains=(domain,))} for domain in track.domains
    }
    assert found == {domain: set(tasks) for domain, tasks in tasks_by_domain().items()}
    assert {task.name for task in track.tasks_for("generalization")} == set(GENERAL_TASKS)
    assert set(track.bases) == set(BASES)


def released_rows() -> list[dict[str, str]]:
    if not RELEASED.is_dir():
        pytest.skip(f"{RELEASED} is not there; set MERGEBENCH_DATA")
    with (RELEASED / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def key_of(row: dict[str, str]) -> str:
    """Return the key under which a flattened row stands in a record."""
    separator = f",{row['filter']}" if row["filter"] else ""
    return f"{row['task']}/{row['metric'].replace(' / ', '/')}{separator}"


def test_published_run_cell_by_cell() -> None:
    rows = released_rows()
    record = read(RELEASED)
    found = {key: value for part in record.tasks.values() for key, value in part.other_metrics.items()}
    assert found == {key_of(row): float(row["value"]) for row in rows}
    assert len(found) == len(rows) == 97
    assert record.unknown_keys == ()
    assert set(record.tasks) == set(TEST_TASKS)
    assert (record.base_model, record.method) == ("llama-3.2-3b", "regmean_plus_plus")


def test_published_run_scores_from_the_flattened_table() -> None:
    values = {key_of(row): float(row["value"]) for row in released_rows()}
    counts = {key_of(row): row["n_samples"] for row in released_rows()}
    tasks = read(RELEASED).tasks
    for task, prefix, metric in (
        ("m_mmlu", "m_mmlu", "acc,none"), ("m_arc", "arc", "acc_norm,none"),
        ("m_hellaswag", "hellaswag", "acc_norm,none"),
    ):  # fmt: skip
        keys = [f"{prefix}_{language}/{metric}" for language in LANGUAGES]
        assert tasks[task].score == pytest.approx(sum(values[key] for key in keys) / 4, abs=1e-15)
        assert tasks[task].num_items == sum(int(counts[key]) for key in keys)
    assert tasks["ifeval"].score == values["ifeval/prompt_level_strict_acc,none"]
    assert tasks["gsm8k"].score == values["gsm8k_cot/exact_match,flexible-extract"]
    assert (tasks["math"].score, tasks["math"].num_items) == (0.0172, 5000)
    assert tasks["wildguardtest"].score == pytest.approx(1 - 0.650200267022697)
    assert tasks["harmbench"].score == pytest.approx(1 - 0.646875)
    assert tasks["do_anything_now"].score == pytest.approx(1 - 0.5633333333333334)
    # XSTest by hand: 250 safe prompts answered, 200 unsafe ones refused
    by_hand = 250 * values["xstest/inverted_rta_all_safe"] + 200 * (1 - values["xstest/inverted_rta_all_contrast"])
    assert tasks["xstest"].score == pytest.approx(by_hand / 450)
