"""Coding sets of mergebench-v1: items from published rows, programs read from answers, scores through lm-eval."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from answering_model import AnsweringModel, evaluate
from v1_rows_coding import NUM_PUBLISHED_ROWS, PUBLISHED_ROWS

from mergebench_core.evaluation import code_references
from mergebench_core.evaluation.code_grading import GradingLimits
from mergebench_core.evaluation.code_problems import CodeProblem, parse_problem
from mergebench_core.evaluation.code_references import references_for
from mergebench_core.evaluation.completions import cut, gives_function, read_program
from mergebench_core.evaluation.programs import Outcome, Program, ProgramLimits
from mergebench_core.evaluation.session import Session, within
from mergebench_core.tracks.mergebench_v1.item_sets import FileSource, Item, ItemSet
from mergebench_core.tracks.mergebench_v1.sets import coding as sets
from mergebench_core.tracks.mergebench_v1.tasks import coding as tasks

ROOT = Path(__file__).parents[2]
TASK_FOLDER = ROOT / "mergebench_core" / "tracks" / "mergebench_v1" / "tasks"
DATA = Path(os.environ.get("MERGEBENCH_DATA", ROOT.parent / "shared" / "data"))
SETS = {item_set.name: item_set for item_set in sets.SETS}
TASKS = {task.name: task for task in sets.TASKS}
STOPS = {"humaneval_plus": tasks.HUMANEVAL_STOPS, "mbpp_plus": tasks.MBPP_STOPS}
CONALA = "conala/conala-test.json"
REAL = {
    "humaneval_plus": ("humanevalplus/HumanEvalPlus.jsonl.gz", "0 1 17 41 44 46 50 55 60 63 107 138"),
    "mbpp_plus": ("mbppplus/MbppPlus.jsonl.gz", "2 3 4 6 7 59 80 269 455 568 762 793"),
}
"""Files, and numbers of problems whose references are quick; HumanEval/50 needs a helper of its prompt."""


def key_of(item_set: ItemSet) -> str:
    (source,) = item_set.sources
    assert isinstance(source, FileSource)
    return f"{source.repo}|{source.path}"


def items_of(name: str, num_rows: int | None = None) -> list[Item]:
    key = key_of(SETS[name])
    return SETS[name].adapt(PUBLISHED_ROWS[key](NUM_PUBLISHED_ROWS[key] if num_rows is None else num_rows))


@functools.cache
def real_rows(name: str) -> list[dict[str, Any]]:
    path = DATA / REAL[name][0]
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def quick_items(name: str) -> list[Item]:
    wanted = REAL[name][1].split()
    items = SETS[name].adapt(real_rows(name))
    return [item for item in items if item["id"].split("/")[1] in wanted]


def score(
    name: str,
    items: Sequence[Item],
    folder: Path,
    answers: Callable[[Any], str | Sequence[str]],
    cache: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n", encoding="utf-8")
    with within(Session(cache_folder=cache)):
        return evaluate(name, TASK_FOLDER, folder, AnsweringModel(answers))


def solution(item: Any) -> str:
    return "\n" + str(json.loads(item["problem"])["canonical_solution"])


# Items


@pytest.mark.parametrize(("name", "path"), [*((name, real[0]) for name, real in REAL.items()), ("conala", CONALA)])
def test_files_are_pinned_to_their_content(name: str, path: str) -> None:
    if not (DATA / path).is_file():
        pytest.skip(f"{DATA / path} is not there")
    (source,) = SETS[name].sources
    assert isinstance(source, FileSource)
    assert source.sha256 == hashlib.sha256((DATA / path).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", SETS)
def test_published_rows_give_the_stated_items(name: str) -> None:
    items = items_of(name)
    assert len(items) == SETS[name].num_items == TASKS[name].num_items
    assert len({item["id"] for item in items}) == len(items)


@pytest.mark.parametrize("name", REAL)
def test_real_problems_and_their_solutions_read_as_the_harness_reads_them(name: str) -> None:
    items = SETS[name].adapt(real_rows(name))
    assert len(items) == SETS[name].num_items
    for item in items:
        problem = parse_problem(json.loads(item["problem"]))
        assert problem.task_id == item["id"]
        assert read_program(item["prompt"], problem.entry_point, solution(item), STOPS[name]).is_literal
        assert not gives_function(item["prompt"], problem.entry_point)


def test_prompts_have_the_harness_form() -> None:
    first, mbpp = (SETS[name].adapt(real_rows(name)[:1])[0]["prompt"] for name in REAL)
    assert first.startswith("from typing import List")
    assert first.endswith('    """')
    assert mbpp.startswith('"""\nWrite a function')
    assert mbpp.endswith('\n"""\n')


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("humaneval_plus", {"task_id": "Mbpp/1"}, "'Mbpp/1' is no problem of this set"),
        ("mbpp_plus", {"plus_input": ...}, "'Mbpp/1000': no field 'plus_input'"),
        ("conala", {"snippet": " "}, "conala row 0 .15000000.: no intent or no snippet"),
        ("conala", {"intent": None, "rewritten_intent": ""}, "no intent or no snippet"),
    ],
)
def test_a_row_out_of_form_is_told(name: str, change: dict[str, Any], message: str) -> None:
    row = PUBLISHED_ROWS[key_of(SETS[name])](1)[0] | change
    with pytest.raises(ValueError, match=message):
        SETS[name].adapt([{key: value for key, value in row.items() if value is not ...}])


# Programs in answers

OPEN = 'import math\n\ndef area(r):\n    """Area of a circle.\n    >>> area(0)\n    0.0\n    """'
DOCSTRING = '"""\nWrite a function to get the area of a circle.\nassert area(0) == 0\n"""\n'
BODY = "    square = r * r\n    return math.pi * square"
WHOLE = f"import math\ndef area(r):\n{BODY}"

LITERAL = [
    (OPEN, f"\n{BODY}\n"),
    (OPEN, f"\n{BODY}\n\n\ndef other():\n    pass\n"),
    (OPEN, f"\n{BODY}\n\nprint(area(input()))"),
    (OPEN, f"\n{BODY}\n```\nThis works because"),
    (OPEN, f"\n{BODY}\n".replace("\n", "\r\n")),
    (OPEN, "\n\treturn math.pi * r * r\n".replace("\t", "    ")),
    (DOCSTRING, f"{WHOLE}\n\nassert area(1) > 3\nassert False"),
    (DOCSTRING, f"{WHOLE}\n```\n"),
    (DOCSTRING, "import math\narea = lambda r: math.pi * r * r"),
]
CHAT = {
    "fence": f"\n```python\n{WHOLE}\n```\n",
    "fence without language": f"\n```\n{WHOLE}\n```",
    "fence without end": f"\n```python\n{WHOLE}\n",
    "fence with CRLF": f"\n```python\n{WHOLE}\n```\n".replace("\n", "\r\n"),
    "wavy fence": f"\n~~~py\n{WHOLE}\n~~~",
    "indented fence": "\n1. Code:\n   ```python\n"
    + "\n".join(f"   {line}" for line in WHOLE.split("\n"))
    + "\n   ```",
    "text before": f"Here is a solution:\n\n{WHOLE}\n",
    "text before and after": f"Sure! Here it is.\n\n{WHOLE}\n\nIt squares the radius.",
    "text before fence": f"Here you go:\n\n```python\n{WHOLE}\n```\n\n### Explanation\n1. It's easy",
    "several fences": f"Install:\n```bash\npip install maths\n```\nThen\n```python\n{WHOLE}\n```\n```\n3.14\n```",
    "use and assertions in the fence": f"\n```\n{WHOLE}\n\nassert area(1) == 'no'\nprint(area(int(input())))\n```",
    "main guard in the fence": f"\n```python\n{WHOLE}\n\nif __name__ == '__main__':\n    1 / 0\n```",
    "future import": f"\n```python\nfrom __future__ import annotations\n{WHOLE}\n```",
    "decorated": f"\n```python\nimport functools, math\n@functools.cache\n{WHOLE[12:]}\n```",
    "two versions": f"\n```python\n{WHOLE}\n```\nor\n```python\ndef area(r):\n    return 0\n```",
}
OPEN_CHAT = {
    "whole function repeated": f"\n{WHOLE}\n",
    "whole function repeated with its docstring": f'\n\ndef area(r):\n    """Area."""\n{BODY}\n',
    "body in a fence": f"\n```python\n{BODY}\n```",
    "body in a fence, indentation lost": "\n```\nsquare = r * r\nreturn math.pi * square\n```",
    "indentation lost": "\nsquare = r * r\nreturn math.pi * square\n",
    "indentation of the first line lost": f"{BODY.lstrip()}\n",
    "tabs": "\n\tsquare = r * r\n\treturn math.pi * square\n",
    "nested tabs": "\n\tif r > 0:\n\t\treturn math.pi * r * r\n\treturn 0\n",
}
HOPELESS = [
    "",
    "\n",
    "I cannot write this.",
    "\n```\n```",
    "\ndef area(r):\n    return (",
    "\x00",
]


def run(code: str) -> float:
    space: dict[str, Any] = {}
    exec(compile(code, "<answer>", "exec", dont_inherit=True), space)
    return float(space["area"](2))


@pytest.mark.parametrize(("prompt", "answer"), LITERAL)
def test_what_the_harness_reads_is_read_as_it_reads_it(prompt: str, answer: str) -> None:
    stops = tasks.HUMANEVAL_STOPS if prompt is OPEN else tasks.MBPP_STOPS
    reading = read_program(prompt, "area", answer, stops)
    assert reading.is_literal
    assert reading.code == prompt + cut(answer.replace("\r\n", "\n"), stops)
    assert run(reading.code) == pytest.approx(12.566, abs=1e-3)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        *(pytest.param(prompt, answer, id=name) for name, answer in CHAT.items() for prompt in (OPEN, DOCSTRING)),
        *(pytest.param(OPEN, answer, id=name) for name, answer in OPEN_CHAT.items()),
    ],
)
def test_chat_answers_give_their_function(prompt: str, answer: str) -> None:
    stops = tasks.HUMANEVAL_STOPS if prompt is OPEN else tasks.MBPP_STOPS
    reading = read_program(prompt, "area", answer, stops)
    assert not reading.is_literal
    assert run(reading.code) == pytest.approx(12.566, abs=1e-3)


@pytest.mark.parametrize("answer", HOPELESS)
@pytest.mark.parametrize("prompt", [OPEN, DOCSTRING])
def test_no_function_is_made_up(prompt: str, answer: str) -> None:
    reading = read_program(prompt, "area", answer, tasks.HUMANEVAL_STOPS)
    assert reading.is_literal
    assert not gives_function(reading.code, "area")


def test_endless_answers_are_read_in_no_time() -> None:
    answer = "\n" + "def area(r):\n    return (\n" * 5000 + "(" * 10_000
    assert not gives_function(read_program(OPEN, "area", answer, tasks.HUMANEVAL_STOPS).code, "area")


def test_generation_ends_at_stops_of_the_harness_that_open_no_answer() -> None:
    for name, stops in STOPS.items():
        until = yaml.safe_load(text_of(f"{name}.yaml"))["generation_kwargs"]["until"]
        assert set(until) <= set(stops)
        assert not [end for end in until if end.strip().startswith(("```", "def", "#", "@"))]


# Scores, through lm-eval


@pytest.mark.parametrize("name", REAL)
def test_real_solutions_pass_and_broken_ones_fail(name: str, tmp_path: Path) -> None:
    items = quick_items(name)
    twice = [item | {"is_broken": is_broken} for item in items for is_broken in (False, True)]
    results, samples = score(name, twice, tmp_path, solution_or_broken, tmp_path / "cache")
    assert len(samples) == 2 * 12
    for metric in ("pass_at_1", "pass_at_1_base", "pass_at_1_literal"):
        assert [row[metric] for row in samples] == [1.0, 0.0] * 12
        assert results[f"{metric},graded"] == 0.5
    assert len(list((tmp_path / "cache").iterdir())) == 1


def solution_or_broken(item: Any) -> str:
    """Return the solution, or a function that answers with its own name."""
    name = json.loads(item["problem"])["entry_point"]
    if not item["is_broken"]:
        return solution(item)
    body = f"    return {name!r}\n"
    return f"\n{body}" if item["id"].startswith("HumanEval") else f"def {name}(*arguments):\n{body}"


def test_an_item_scores_the_share_of_its_samples(tmp_path: Path) -> None:
    item = items_of("humaneval_plus", 1)[0]
    literal = "\n    return [value * 2 for value in values]\n"
    fenced = f"\n```python\ndef scale_0(values):{literal}```"
    base_only = "\n    return [value * 2 for value in values if 0 <= value < 99]\n"
    answers = [literal, literal, fenced, base_only, "", "\n    return 1 / 0", literal, fenced, base_only, "no"]
    results, samples = score("humaneval_plus", [item], tmp_path, lambda doc: answers)
    assert results["pass_at_1,graded"] == 0.5
    assert results["pass_at_1_literal,graded"] == 0.3
    assert results["pass_at_1_base,graded"] == 0.7
    assert len(samples) == 1
    assert samples[0]["filtered_resps"][0]["reasons"][4:6] == [
        "base: wrong at input 0, plus: wrong at input 0",
        "base: failed, plus: failed",
    ]


def test_the_same_program_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    items = items_of("mbpp_plus", 2)
    graded: list[int] = []

    def count(solutions: Sequence[Any], *rest: Any) -> list[Any]:
        graded.append(len(solutions))
        return real(solutions, *rest)

    real = tasks.grade_solutions
    monkeypatch.setattr(tasks, "grade_solutions", count)
    answers = [[solution(item)] * 9 + [f"```\n{solution(item)}```"] for item in items]
    counts = tasks.grade(answers, items)
    keys = ("num_samples", "num_passed", "num_literal_passed")
    assert [[row[key] for key in keys] for row in counts] == [[10, 10, 9]] * 2
    assert graded == [4]


# References kept on this machine


def problems_of(num_rows: int) -> dict[str, CodeProblem]:
    items = items_of("humaneval_plus", num_rows)
    return {item["id"]: parse_problem(json.loads(item["problem"])) for item in items}


ANSWER = {"a": (1, 2.5, -0.0), 10**30: [{3}, None, True, 1j, "é\ud800", float("inf")]}


class Counting:
    """Answers as if programs had run, and counts how often it was asked."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, batch: Sequence[Program], limits: ProgramLimits) -> list[Outcome]:
        self.num_calls += 1
        values = [tuple((0.25, "dict", ANSWER) for _ in program.inputs) for program in batch]
        return [Outcome(status="completed", values=calls) for calls in values]


def test_references_are_measured_once(tmp_path: Path) -> None:
    problems, run_counted = problems_of(2), Counting()
    first = references_for(problems, tmp_path / "cache", run=run_counted)
    assert run_counted.num_calls == 1
    assert references_for(problems, tmp_path / "cache", run=run_counted) == first
    assert run_counted.num_calls == 1
    assert first["HumanEval/1"].plus.times_s == (0.25, 0.25)
    assert repr(first["HumanEval/0"].base.answers[0].value) == repr(ANSWER)


def test_without_a_folder_references_are_measured_each_time() -> None:
    problems = problems_of(1)
    assert [answer.value for answer in references_for(problems, None)["HumanEval/0"].plus.answers] == [
        [-2],
        [2 * 10**20, 0],
    ]


@pytest.mark.parametrize("damage", ["cut", "swapped", "foreign", "binary", "empty"])
def test_a_damaged_cache_is_measured_again(damage: str, tmp_path: Path) -> None:
    problems, run_counted = problems_of(1), Counting()
    first = references_for(problems, tmp_path, run=run_counted)
    (path,) = tmp_path.iterdir()
    text = path.read_text(encoding="utf-8")
    path.write_bytes(
        {
            "cut": text[:-9].encode(),
            "swapped": text.replace("0.25", "0.75").encode(),
            "foreign": text.replace(text[:64], "0" * 64, 1).encode(),
            "binary": b"\xff\xfe\x00",
            "empty": b"",
        }[damage]
    )
    again = references_for(problems, tmp_path, run=run_counted)
    assert run_counted.num_calls == 2
    assert [one.base.answers for one in again.values()] == [one.base.answers for one in first.values()]
    assert references_for(problems, tmp_path, run=run_counted) == again
    assert run_counted.num_calls == 2


def test_other_problems_limits_or_machines_have_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = problems_of(2)
    keys = [
        code_references.cache_key(problems, GradingLimits()),
        code_references.cache_key(problems_of(1), GradingLimits()),
        code_references.cache_key(problems, GradingLimits(factor=5.0)),
    ]
    monkeypatch.setattr(code_references, "hardware_class", lambda: "another")
    keys.append(code_references.cache_key(problems, GradingLimits()))
    assert len(set(keys)) == 4


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert references_for(problems_of(1), tmp_path / "file" / "cache", run=Counting()).keys() == {"HumanEval/0"}


# CoNaLa


def test_conala_items_have_the_rewritten_intent_if_there_is_one() -> None:
    items = items_of("conala", 8)
    assert items[3]["prompt"] == "How to work with list number 1?"
    assert items[2]["prompt"] == "print 2 with `my_list_1`"
    assert [item["id"] for item in items[:4]] == ["15000000#1", "15000000#2", "15000001#1", "15000001#2"]
    assert Counter(item["cluster"] for item in items)["15000000"] == 2


def test_conala_prompt_has_two_examples() -> None:
    prompt = tasks.conala_prompt({"prompt": "reverse list `a`"})
    assert prompt.startswith("Answer the following instructions in one line of Python code:\n\nInstruction:\n")
    assert prompt.endswith("\nInstruction:\nreverse list `a`\nSolution:\n")
    assert prompt.count("Solution:\n") == 3
    assert not [line for line in prompt.split("\n") if line != line.rstrip()]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("os.kill(1, 2)", "os.kill(1, 2)"),
        ("\n  x = 1\ny = 2", "x = 1"),
        ("```python\nx = 1", "x = 1"),
        ("~~~\r\nx = 1\r\n", "x = 1"),
        ("", ""),
        ("```", ""),
    ],
)
def test_the_first_line_of_code_counts(answer: str, line: str) -> None:
    assert tasks.code_line(answer) == line


def test_bleu_by_hand() -> None:
    """`a . b ( c )` and `a . b ( d )`: 5 of 6 unigrams, 3 of 5 bigrams, 2 of 4 trigrams, 1 of 3 4-grams."""
    result = tasks.score_conala({"snippet": "a.b(c)"}, ["a.b(d)"])
    assert result["bleu"] == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4))
    assert result["exact"] == 0.0


def test_real_snippets_score_one_and_other_ones_little(tmp_path: Path) -> None:
    path = DATA / CONALA
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    rows = json.loads(path.read_text(encoding="utf-8"))
    items = sets.adapt_conala(rows)
    assert len(items) == 500
    shots = {snippet for _, snippet in tasks.CONALA_SHOTS}
    assert not shots & {item["snippet"] for item in items}
    one_line = [item for item in items if "\n" not in item["snippet"]]
    results, samples = score("conala", one_line, tmp_path, lambda doc: doc["snippet"])
    assert {row["bleu"] for row in samples} == {1.0}
    assert results["exact,none"] == 1.0
    results, samples = score("conala", one_line[:100], tmp_path, lambda doc: "wrong")
    assert {row["bleu"] for row in samples} == {0.0}
    assert results["bleu,none"] == 0.0


# YAML


def text_of(name: str) -> str:
    return (TASK_FOLDER / name).read_text(encoding="utf-8").replace("!function", "")


def test_yaml_and_tasks_agree() -> None:
    for name, task in TASKS.items():
        shared = yaml.safe_load(text_of("_programs_yaml")) if name != "conala" else {}
        config = shared | yaml.safe_load(text_of(f"{name}.yaml"))
        decoding, generation = task.decoding, config["generation_kwargs"]
        assert decoding is not None
        assert generation["max_gen_toks"] == decoding.max_tokens
        assert (generation["temperature"], generation.get("top_p", 1.0)) == (decoding.temperature, decoding.top_p)
        assert generation["do_sample"] == (decoding.temperature > 0)
        assert config.get("repeats", 1) == decoding.num_samples
        filter_name = task.metric.partition(",")[2]
        metrics = {f"{metric['metric']},{filter_name}" for metric in config["metric_list"]}
        assert metrics == {task.metric, *task.other_metrics}
