"""IFEval and the IFEval-like surrogate of mergebench-v1, through lm-eval's evaluator."""

import json
import os
import random
import socket
import sys
from pathlib import Path

import pytest
import yaml
from answering_model import AnsweringModel, evaluate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from v1_rows_instruction import (
    PUBLISHED_ROWS,
    following,
    following_all,
    ifeval_like_rows,
    ifeval_rows,
    violating,
)

from mergebench_core.errors import MergebenchError
from mergebench_core.tracks.mergebench_v1.sets.instruction import (
    ARGUMENTS,
    SETS,
    TASKS,
    adapt_ifeval,
    adapt_ifeval_like,
)
from mergebench_core.tracks.mergebench_v1.tasks import instruction
from mergebench_core.tracks.mergebench_v1.tasks.instruction import (
    Share,
    checkers,
    count_capital_words,
    loose_variants,
    mean_over_instructions,
    score_instructions,
    split_sentences,
)

TASK_FOLDER = Path(instruction.__file__).parent
DATA = Path(os.environ.get("MERGEBENCH_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
STRICT, LOOSE = "prompt_level_strict_acc", "prompt_level_loose_acc"


@pytest.fixture(scope="module")
def real_items():
    path = DATA / "ifeval" / "input_data.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not there; set MERGEBENCH_DATA")
    return adapt_ifeval([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


def write_items(folder, name, items):
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def item_of(*pairs):
    return {"id": "0", "prompt": "Write.", "instructions": json.dumps(pairs)}


def answered_by_hand(item):
    pairs = json.loads(item["instructions"])
    return following(*pairs[0]) if len(pairs) == 1 else following_all(pairs)


# ---- whole


def test_real_prompts_with_answers_made_by_hand(real_items, tmp_path):
    """All 305 prompts with one instruction, and 207 of 236 with several (some of which nobody can keep)."""
    assert len(real_items) == 541
    write_items(tmp_path, "ifeval", real_items)
    model = AnsweringModel(answered_by_hand)
    results, samples = evaluate("ifeval", TASK_FOLDER, tmp_path, model)
    kept = {sample["doc"]["id"] for sample in samples if sample[STRICT] == 1.0}
    single = {item["id"] for item in real_items if len(json.loads(item["instructions"])) == 1}
    assert len(single) == 305
    assert single <= kept
    assert len(kept) == 512
    assert results[f"{STRICT},none"] == pytest.approx(512 / 541)
    kinds = {name for item in real_items if item["id"] in kept for name, _ in json.loads(item["instructions"])}
    assert kinds == set(ARGUMENTS)
    assert [request.args[0] for request in model.requests] == [item["prompt"] for item in real_items]


def test_a_broken_instruction_scores_nothing(real_items):
    for item in real_items:
        pairs = json.loads(item["instructions"])
        if len(pairs) == 1:
            assert score_instructions(item, [violating(*pairs[0])])[STRICT] == 0.0, pairs


@pytest.mark.parametrize("item_set", SETS, ids=lambda item_set: item_set.name)
def test_made_up_rows(item_set, tmp_path):
    source = item_set.sources[0]
    rows = PUBLISHED_ROWS[f"{source.repo}|{source.config or ''}|{source.split}"](29)
    assert all(set(source.columns) <= set(row) for row in rows)
    items = item_set.adapt(rows)
    assert {name for item in items for name, _ in json.loads(item["instructions"])} == set(ARGUMENTS)
    write_items(tmp_path, item_set.name, items)
    keys = (f"{STRICT},none", f"{LOOSE},none", "inst_level_strict_acc,none", "inst_level_loose_acc,none")
    results, samples = evaluate(item_set.name, TASK_FOLDER, tmp_path, AnsweringModel(answered_by_hand))
    assert [results[key] for key in keys] == [1.0] * 4
    assert all(0.0 <= float(sample[key.split(",")[0]]) <= 1.0 for sample in samples for key in keys)
    results, _ = evaluate(
        item_set.name,
        TASK_FOLDER,
        tmp_path,
        AnsweringModel(lambda item: violating(*json.loads(item["instructions"])[0])),
    )
    assert results[f"{STRICT},none"] == 0.0
    results, _ = evaluate(item_set.name, TASK_FOLDER, tmp_path, AnsweringModel(lambda item: " \n "))
    assert [results[key] for key in keys] == [0.0] * 4


def test_instruction_level_counts_instructions_not_prompts():
    """1 of 2 and 1 of 1: 2 of 3 instructions, while the mean over prompts would be 3/4."""
    half = score_instructions(item_of(["punctuation:no_comma", {}], ["detectable_format:title", {}]), ["no title"])
    whole = score_instructions(item_of(["punctuation:no_comma", {}]), ["fine"])
    shares = [scores["inst_level_strict_acc"] for scores in (half, whole)]
    assert shares == [0.5, 1.0]
    assert mean_over_instructions(shares) == pytest.approx(2 / 3)
    assert half[STRICT] == 0.0


def test_loose_reading_drops_first_line_last_line_and_asterisks():
    assert loose_variants("a\n*b*\nc") == ["a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"]
    item = item_of(["startend:quotation", {}])
    scores = score_instructions(item, ['Sure, here it is:\n"The sea is calm."'])
    assert (scores[STRICT], scores[LOOSE]) == (0.0, 1.0)
    assert scores["inst_level_loose_acc"] == Share.of([True])


def test_scores_are_those_of_lm_eval_where_the_checkers_are(real_items):
    checkers()
    from lm_eval.tasks.ifeval.utils import process_results

    own = set(instruction._own_checkers(instruction._load_instructions()[0]))
    for item in real_items[:160]:
        pairs = json.loads(item["instructions"])
        if own & {name for name, _ in pairs}:
            continue
        document = {
            "key": item["id"],
            "prompt": item["prompt"],
            "instruction_id_list": [name for name, _ in pairs],
            "kwargs": [given for _, given in pairs],
        }
        for answer in (f"Sure:\n{answered_by_hand(item)}", f"**{violating(*pairs[0])}**"):
            theirs, ours = process_results(document, [answer]), score_instructions(item, [answer])
            for kind in ("strict", "loose"):
                followed = theirs[f"inst_level_{kind}_acc"]
                assert ours[f"prompt_level_{kind}_acc"] == theirs[f"prompt_level_{kind}_acc"]
                assert ours[f"inst_level_{kind}_acc"] == sum(followed) / len(followed)


# ---- checks that differ from lm-eval's


def test_known_types_and_arguments_are_those_of_lm_eval():
    assert set(checkers()) == set(ARGUMENTS)
    _, registered = instruction._load_instructions()
    for name, checker in registered.items():
        assert set(checker(name).get_instruction_args_keys()) == set(ARGUMENTS[name]), name


def test_languages_are_those_of_lm_eval():
    from lm_eval.tasks.ifeval import instructions_util

    is_language = ARGUMENTS["language:response_language"]["language"]
    assert all(map(is_language, instructions_util.LANGUAGE_CODES))
    assert not is_language("xx")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("One.", 1),
        ("One. Two! Three?", 3),
        ("Dr. Smith met Mrs. Jones at 5 p.m. on Main St. yesterday. They left.", 2),
        ("It costs 3.50 dollars, e.g. at U.S. shops. Fine.", 2),
        ("See fig. 3 and vol. 2. Done.", 2),
        ("No full stop at the end", 1),
        ("Wait... what? Yes.", 2),
        ('He said "Go." She went.', 2),
        ("line one\nline two.\n\nline three.", 2),
    ],
)
def test_sentences(text, number):
    assert len(split_sentences(text)) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 0), ("the SEA is CALM.", 2), ("WELL-KNOWN words", 1), ("I am", 1), ("A1 and 12", 1), ("(SEA) Sea", 1)],
)
def test_capital_words(text, number):
    assert count_capital_words(text) == number


def test_a_letter_that_is_no_letter_is_counted():
    item = item_of(["keywords:letter_frequency", {"letter": "#", "let_frequency": 4, "let_relation": "at least"}])
    for seed in range(5):
        random.seed(seed)
        assert score_instructions(item, ["#a #b #c #d"])[STRICT] == 1.0
        assert score_instructions(item, ["#a #b #c and " + "abcdefghijklmnopqrstuvwxyz" * 4])[STRICT] == 0.0


def test_verdicts_on_language_repeat():
    """Unseeded, langdetect calls the first German four times in five, and the second English once in five."""
    item_by_text = {
        "er war da": item_of(["language:response_language", {"language": "de"}]),
        "hola amor total": item_of(["language:response_language", {"language": "en"}]),
    }
    for text, item in item_by_text.items():
        assert len({score_instructions(item, [text])[STRICT] for _ in range(15)}) == 1


# ---- robustness


def test_hostile_answers_are_no_error():
    deep = item_of(["detectable_format:json_format", {}])
    assert score_instructions(deep, ["[" * 100_000])[STRICT] == 0.0
    assert score_instructions(deep, ["9" * 10_000])[STRICT] == 0.0
    spaces = item_of(
        ["detectable_content:postscript", {"postscript_marker": "P.S."}],
        ["detectable_format:number_bullet_lists", {"num_bullets": 1}],
    )
    assert score_instructions(spaces, ["* sea\n" + "\n" * 50_000 + "P.S. sea"])[STRICT] == 1.0


@given(text=st.text(alphabet=st.sampled_from('aA1 .,!*-#[]<>"{}\n\té\u0301\u4e00\U0001f600'), max_size=60))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_answer_gets_a_score_and_loose_is_never_stricter(text):
    for item in adapt_ifeval(ifeval_rows(29)):
        scores = score_instructions(item, [text])
        assert all(0.0 <= value <= 1.0 for value in scores.values())
        assert scores[STRICT] <= scores[LOOSE]


def test_importing_the_checkers_asks_no_network_and_prints_nothing(monkeypatch, capfd):
    import nltk

    def refuse(*args, **kwargs):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(nltk, "download", refuse)
    for name in [name for name in sys.modules if name.startswith("lm_eval.tasks.ifeval")]:
        monkeypatch.delitem(sys.modules, name)
    find = nltk.data.find
    _, registered = instruction._load_instructions()
    assert len(registered) == 25
    assert nltk.data.find is find
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(MergebenchError, match=r"'langdetect'.*pip install"):
        instruction._load_instructions()


# ---- items


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction_id_list": ["keywords:key_sentences"]}, "unknown instruction"),
        ({"instruction_id_list": []}, "do not match"),
        ({"kwargs": []}, "do not match"),
        ({"kwargs": [{"keyword": "sea"}]}, "unknown instruction"),
        ({"kwargs": [None]}, "no list of objects"),
    ],
)
def test_a_row_out_of_form_is_named(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        adapt_ifeval([ifeval_rows(1)[0] | change])
    assert "row 0 (key 1000)" in str(caught.value)


def test_numbers_that_came_as_floats_are_integers():
    row = ifeval_rows(2)[1]
    (item,) = adapt_ifeval([row | {"kwargs": [row["kwargs"][0] | {"frequency": 3.0}]}])
    assert json.loads(item["instructions"])[0][1] == {"keyword": "storm", "frequency": 3, "relation": "at least"}


def like(name, **arguments):
    return ifeval_like_rows(1)[0] | {"instruction_id_list": [name], "kwargs": json.dumps([arguments])}


def test_the_surrogate_keeps_what_has_one_reading():
    keep = like("keywords:existence", keywords=["sea", "ship's log"])
    drop = [
        like("keywords:existence", keywords=["sea", "C++"]),
        like("keywords:existence", keywords=[]),
        like("keywords:existence", keywords="sea"),
        like("keywords:existence"),
        like("keywords:existence", keywords=["sea"], keyword="sea"),
        like("keywords:frequency", keyword="sea", frequency=0, relation="at least"),
        like("keywords:frequency", keyword="sea", frequency=True, relation="at least"),
        like("keywords:frequency", keyword="sea", frequency="3", relation="at least"),
        like("keywords:frequency", keyword="sea", frequency=3, relation="exactly"),
        like("keywords:letter_frequency", letter="!", let_frequency=3, let_relation="at least"),
        like("language:response_language", language="xx"),
        like("length_constraints:number_words", num_words=5_000, relation="at least"),
        like("length_constraints:nth_paragraph_first_word", num_paragraphs=2, nth_paragraph=3, first_word="sea"),
        like("detectable_format:unheard_of"),
        like("punctuation:no_comma") | {"kwargs": "not JSON"},
        like("punctuation:no_comma") | {"kwargs": "{}"},
        like("punctuation:no_comma") | {"prompt": " "},
        like("punctuation:no_comma") | {"instruction_id_list": ["punctuation:no_comma"] * 2, "kwargs": "[{}, {}]"},
    ]
    rows = [
        row | {"key": n, "prompt": f"{row['prompt']}{n}".removeprefix(" 17")}
        for n, row in enumerate([keep, *drop])
    ]
    assert [item["id"] for item in adapt_ifeval_like(rows)] == ["0"]


def test_the_surrogate_takes_each_prompt_and_key_once_and_500_in_all():
    rows = ifeval_like_rows(700)
    twice = [rows[0], rows[1] | {"key": 0}, rows[2] | {"prompt": rows[0]["prompt"]}, rows[3]]
    assert [item["id"] for item in adapt_ifeval_like(twice)] == ["0", "3"]
    items = adapt_ifeval_like(rows)
    assert len(items) == 500
    assert items == sorted(adapt_ifeval_like(rows[::-1]), key=lambda item: int(item["id"]))


def test_counts_and_yaml_agree():
    for task, item_set in zip(TASKS, SETS, strict=True):
        assert (task.name, task.num_items) == (item_set.name, item_set.num_items)
        found = yaml.safe_load((TASK_FOLDER / f"{task.name}.yaml").read_text().replace("!function ", ""))
        assert found["num_fewshot"] == task.num_shots == 0
        assert found["generation_kwargs"]["max_gen_toks"] == task.decoding.max_tokens == 1280
        metrics = {f"{entry['metric']},none" for entry in found["metric_list"]}
        assert metrics == {task.metric, *task.other_metrics}
