"""The audit of overlaps: against a slow reference, on overlaps made by hand, and on published sets."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import importlib
import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mergebench_core.cli.auditing import print_audit
from mergebench_core.tracks.audit import (
    AuditItem,
    audit_answer,
    audit_item,
    audit_items,
    audit_question_id,
    audit_text,
)
from mergebench_core.tracks.audit_texts import words
from mergebench_core.tracks.mergebench_v1.item_sets import HubSource
from mergebench_core.training.prompt_format import instruction_prompt

DATA = Path(os.environ.get("MERGEBENCH_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
ORDER = ("calibration", "surrogate", "generalization", "test")
NUMBERS = [f"w{number}" for number in range(1, 40)]


def item(name, text, purpose="test", question=None, answer=""):
    return AuditItem(id=name, text=text, purpose=purpose, question_id=question, answer=answer)


def run(first, second, **kinds):
    """Return num_first, num_second and examples by kind for two sets: surrogate and test."""
    report = audit_items({"a": first, "b": second}, **kinds)
    return {found.kind: (found.num_first, found.num_second, found.examples) for found in report.overlaps}


def surrogate(*texts, **fields):
    return [item(f"a{number}", text, "surrogate", **fields) for number, text in enumerate(texts)]


def in_test(*texts, **fields):
    return [item(f"b{number}", text, "test", **fields) for number, text in enumerate(texts)]


def slow_words(text):
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    folded = unicodedata.normalize("NFKC", visible.casefold())
    return "".join(letter if letter.isalnum() else " " for letter in folded).split()


def slow_keys(entry, kind):
    if kind == "question":
        return {entry.question_id} - {None}
    if kind == "exact":
        return {tuple(slow_words(entry.text))} - {()}
    runs = [slow_words(entry.text), slow_words(entry.answer)]
    return {tuple(run[at : at + 13]) for run in runs for at in range(len(run) - 12)}


def slow_counts(sets):
    """Count item by item and pair by pair."""
    counts = {}
    for kind in ("exact", "13-gram", "question"):
        for name, items in sets.items():
            for other, others in sets.items():
                if name == other or not items or not others or items[0].purpose == others[0].purpose:
                    continue
                found = sum(
                    any(slow_keys(entry, kind) & slow_keys(partner, kind) for partner in others) for entry in items
                )
                if found:
                    counts[f"{kind}:{name}/{other}"] = found
    return counts


few_words = st.lists(
    st.sampled_from(["a", "b", "A,", "B!", "\u00e9", "e\u0301", "7", "_", "\u2028", "a\u00adb", "\u200b"]),
    max_size=30,
)
texts = few_words.map(" ".join)
entries = st.tuples(texts, texts, st.sampled_from([None, "q/1", "q/2"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(entries, max_size=4), min_size=4, max_size=4))
@example([[("a " * 13, "", None)], [("", "A! " * 14, None)], [("a " * 12, "a " * 12, None)], [("", "", None)]])
def test_counts_are_those_of_the_slow_reference(drawn):
    sets = {
        purpose[:4]: [
            item(f"{purpose}{number}", text, purpose, question, answer)
            for number, (text, answer, question) in enumerate(members)
        ]
        for purpose, members in zip(ORDER, drawn, strict=True)
    }
    assert audit_items(sets).to_counts() == slow_counts(sets)


def test_exact_ignores_case_spaces_and_punctuation():
    found = run(surrogate("What is 2 + 2?", "other"), in_test("unlike", "  WHAT is:\n2 2", "what is 2, 2"))
    assert found == {"exact": (1, 2, (("a0", "b1"),))}


@pytest.mark.parametrize(("left", "right"), [("Straße", "STRASSE"), ("ﬁn", "fin"), ("caf\u00e9", "CAFE\u0301")])
def test_exact_ignores_how_unicode_writes_it(left, right):
    assert run(surrogate(left), in_test(right))["exact"][:2] == (1, 1)


@pytest.mark.parametrize("mark", ["\u00ad", "\u200b", "\u2060", "\ufeff", "\u202e", "\U000e0041"])
def test_invisible_marks_hide_nothing(mark):
    assert run(surrogate("How old is Ann?"), in_test(f"How o{mark}ld{mark} is Ann{mark}?"))["exact"][:2] == (1, 1)
    assert words(f"e{mark}\u0301t{mark}e\u0301") == ["\u00e9t\u00e9"]


def test_texts_without_a_word_share_nothing():
    assert run(surrogate("", "?!"), in_test("", "...")) == {}


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not():
    shared = " ".join(NUMBERS[:13])
    first, second = surrogate(f"before {shared} after"), in_test(f"x y {shared.upper()}.", "nothing")
    assert run(first, second) == {"13-gram": (1, 1, (("a0", "b0"),))}
    twelve = " ".join(NUMBERS[:12])
    assert run(surrogate(f"before {twelve} after"), in_test(f"x {twelve} y")) == {}


def test_the_order_of_words_counts():
    assert run(surrogate(" ".join(NUMBERS[:13])), in_test(" ".join(reversed(NUMBERS[:13])))) == {}
    assert run(surrogate("a b " * 7), in_test("b a " * 7))["13-gram"][:2] == (1, 1)
    assert run(surrogate(" ".join("ab" * 6) + " a"), in_test(" ".join("ba" * 6) + " b")) == {}


def test_grams_never_cross_from_item_to_item_or_from_text_to_answer():
    head, tail = " ".join(NUMBERS[:7]), " ".join(NUMBERS[7:13])
    assert run(surrogate(head, tail), in_test(f"{head} {tail}")) == {}
    assert run(surrogate(head, answer=tail), in_test(f"{head} {tail}")) == {}


def test_grams_are_found_in_any_item():
    first, last = " ".join(NUMBERS[:16]), " ".join(NUMBERS[16:32])
    found = run(surrogate(first, "short", last), in_test("short one", " ".join(NUMBERS[18:31]), first[:9]))
    assert found == {"13-gram": (1, 1, (("a2", "b1"),))}


def test_answers_are_searched_for_grams_only():
    solution = " ".join(NUMBERS[:14])
    assert run(surrogate("p", answer=solution), in_test("q", answer=f"so {solution}"))["13-gram"][:2] == (1, 1)
    assert run(surrogate("p", answer="the same"), in_test("q", answer="the same")) == {}


def test_questions_are_found_across_languages():
    found = run(
        surrogate("What?", question="astronomy/test/12"),
        [item("fr", "Quoi ?", question="astronomy/test/12"), item("de", "Wer?", question="astronomy/test/13")],
    )
    assert found == {"question": (1, 1, (("a0", "fr"),))}


def test_only_sets_of_different_purpose_are_compared_unless_asked():
    sets = {"fr": [item("1", "same text")], "de": [item("2", "same text")]}
    assert audit_items(sets).overlaps == ()
    assert audit_items(sets, within_purpose=True).to_counts() == {"exact:fr/de": 1, "exact:de/fr": 1}


def test_the_set_used_earlier_stands_first():
    sets = {
        "t": [item("t", "same")],
        "g": [item("g", "same", "generalization")],
        "c": [item("c", "same", "calibration")],
    }
    report = audit_items(sets)
    assert [(found.first, found.second) for found in report.overlaps] == [("c", "g"), ("c", "t"), ("g", "t")]
    assert [found.name for found in report.sets] == ["c", "g", "t"]


def test_what_is_by_construction_is_said():
    first, second = surrogate("x", question="q"), in_test("y", question="q")
    (found,) = audit_items({"a": first, "b": second}, by_construction=[("b", "a")]).overlaps
    assert found.is_by_construction
    assert not audit_items({"a": first, "b": second}, by_construction=[("a", "c")]).overlaps[0].is_by_construction


def test_short_items_and_empty_sets_are_counted():
    sets = {"a": surrogate("one two", " ".join(NUMBERS), answer="x"), "b": [], "c": in_test("x")}
    report = audit_items(sets)
    assert [(found.name, found.num_items, found.num_short) for found in report.sets] == [("a", 2, 1), ("c", 1, 1)]
    assert audit_items({}).sets == ()
    assert audit_items({"a": []}).to_counts() == {}


def test_examples_are_few_and_in_order():
    report = audit_items({"a": surrogate(*["same"] * 9), "b": in_test("same", "same")})
    assert report.overlaps[0].examples == tuple((f"a{number}", "b0") for number in range(5))
    assert (report.overlaps[0].num_first, report.overlaps[0].num_second) == (9, 2)


def test_text_and_answer_of_items():
    choices = {"id": "1", "question": "Which?", "choices": ["red", "blue"], "answer": 1}
    assert (audit_text(choices), audit_answer(choices)) == ("Which?\nred\nblue", "")
    passage = {"context": "A town.", "question": "Where?", "title": "Town", "answers": ["here", "there"]}
    assert (audit_text(passage), audit_answer(passage)) == ("Town\nA town.\nWhere?", "here\nthere")
    sample = {"prompt": instruction_prompt("Sum 1 and 2."), "completion": "It is 3."}
    assert (audit_text(sample), audit_answer(sample)) == ("Sum 1 and 2.", "It is 3.")
    told = audit_text({"prompt": instruction_prompt("Sum\n\nthem.", "1, 2")})
    assert words(told) == ["sum", "them", "input", "1", "2"]
    assert audit_item(sample, "calibration", "7").id == "7"
    assert audit_text({"id": "x", "label": 3}) == ""


def test_what_a_prompt_adds_is_no_text():
    plain = {"question": "How many legs has a hen?", "choices": ["2", "4"], "answer": 0}
    about = "The following are multiple choice questions (with answers) about hens and other birds.\n\n"
    prompt = f"{about}How many legs has a hen?\nA. 2\nB. 4\nAnswer:"
    asked = {"prompt": prompt, "choices": ["A", "B"], "label": 0}
    arc = {"prompt": "Question: How many legs has a hen?\nAnswer:", "choices": ["2", "4"], "label": 0}
    expected = ["how", "many", "legs", "has", "a", "hen", "2", "4"]
    assert [words(audit_text(item)) for item in (plain, asked, arc)] == [expected] * 3


def test_program_problems_give_their_solution_and_no_inputs():
    problem = json.dumps({"prompt": "def f():", "canonical_solution": "return 1", "plus_input": "[[1, 2]]"})
    entry = {"prompt": "def f():", "problem": problem}
    assert (audit_text(entry), audit_answer(entry)) == ("def f():", "return 1")
    assert audit_text({"problem": "{a} is a set"}) == "{a} is a set"
    assert audit_text({"problem": "[1]"}) == "[1]"


def test_a_test_item_within_json_is_found():
    hidden = json.dumps({"task": "How old is Ann?", "solution": "seven"})
    sample = {"prompt": instruction_prompt(hidden), "completion": "7"}
    assert (audit_text(sample), audit_answer(sample)) == (hidden, "7")
    assert audit_text({"question": hidden}) == hidden


@pytest.mark.parametrize("field", ["problem", "prompt"])
def test_json_that_is_too_deep_is_text(field):
    deep = '{"a":' * 100_000
    assert audit_text({field: deep}) == deep
    assert audit_answer({field: deep}) == ""


def test_calibration_prompts_share_no_frame():
    first = audit_item({"prompt": instruction_prompt("Sum."), "completion": "1"}, "calibration", "1")
    second = audit_item({"id": "1", "prompt": instruction_prompt("Divide.")}, "test")
    assert audit_items({"a": [first], "b": [second]}).overlaps == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"id": "astronomy/test/12"}, "astronomy/test/12"),
        ({"id": "m_mmlu_fr/astronomy/test/12"}, "astronomy/test/12"),
        ({"id": "7", "cluster": "high_school_physics/val/0"}, "high_school_physics/val/0"),
        ({"id": "ARC-Challenge/test/Mercury_SC_415719"}, "ARC-Challenge/test/Mercury_SC_415719"),
        ({"id": "a/test/1#2", "cluster": "a/test/1"}, "a/test/1"),
        ({"id": "x", "question_id": "law/dev/3"}, "law/dev/3"),
        ({"id": "validation/abstract_algebra/0"}, "abstract_algebra/val/0"),
        ({"id": "abstract_algebra/validation/0"}, "abstract_algebra/val/0"),
        ({"id": "ARC-Challenge/test/AKDE&ED_2008_4_35"}, "ARC-Challenge/test/AKDE&ED_2008_4_35"),
        ({"id": "HumanEval/12"}, None),
        ({"id": "Normans/4", "cluster": 5}, None),
        ({}, None),
    ],
)
def test_question_ids(fields, expected):
    assert audit_question_id(fields) == expected


def test_report_is_printed_without_texts(capsys):
    secret = "Is this [text] shown"
    report = audit_items({"a": surrogate(secret), "b": in_test(secret)})
    print_audit(report)
    shown = capsys.readouterr().out
    assert "a0 = b0" in shown
    assert "shown" not in shown
    print_audit(report, json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"exact:a/b": 1, "exact:b/a": 1}
    assert document["overlaps"][0]["examples"] == [["a0", "b0"]]
    print_audit(dataclasses.replace(report, overlaps=()))
    assert "share nothing" in capsys.readouterr().out


PARTS = ("instruction", "math", "multilingual", "coding", "safety", "general")


@pytest.mark.parametrize("part", PARTS)
def test_every_set_of_the_track_has_text(part):
    """A field that the audit does not know would leave a set unread."""
    rows = importlib.import_module(f"v1_rows_{part}").PUBLISHED_ROWS
    for item_set in importlib.import_module(f"mergebench_core.tracks.mergebench_v1.sets.{part}").SETS:
        items = item_set.adapt(*(rows[key_of(source)](40) for source in item_set.sources))
        assert items
        assert all(words(audit_text(entry)) for entry in items), item_set.name


def key_of(source):
    return f"{source.repo}|" + (
        f"{source.config or ''}|{source.split}" if isinstance(source, HubSource) else source.path
    )


def json_lines(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def rows_of(name):
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))
    return json_lines(path)


def published(name, purpose, id_field=None):
    rows = rows_of(name)
    return [
        audit_item({**row, "id": row.get("id", "")}, purpose, str(row[id_field]) if id_field else str(number))
        for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize("name", ["HumanEvalPlus-OriginFmt.jsonl.gz", "HumanEvalPlus-Mini.jsonl.gz"])
def test_humaneval_plus_is_humaneval(name):
    report = audit_items(
        {
            "humaneval": published("humaneval/HumanEval.jsonl.gz", "surrogate", "task_id"),
            "plus": published(f"humanevalplus/{name}", "test", "task_id"),
        }
    )
    counts = report.to_counts()
    assert counts["13-gram:humaneval/plus"] == counts["13-gram:plus/humaneval"] == 164
    assert counts["exact:humaneval/plus"] == 163  # one docstring was mended
    assert all(left == right for left, right in report.overlaps[0].examples)


def test_m_arc_asks_the_same_questions_in_french_and_german():
    sets = {"fr": published("m_arc/fr_test.json", "surrogate"), "de": published("m_arc/de_test.json", "test")}
    assert audit_items(sets).to_counts()["question:fr/de"] == 1169
    splits = {split: published(f"m_arc/fr_{split}.json", "test") for split in ("train", "validation", "test")}
    assert not [key for key in audit_items(splits, within_purpose=True).to_counts() if key.startswith("question")]


def test_what_published_sets_share():
    """As the slow reference counts: MMLU repeats two problems of MATH and one of its own, and its templates."""
    sets = {
        "mmlu_dev": published("mmlu/mmlu_dev.jsonl", "surrogate"),
        "lambada": published("lambada/lambada_test_500.jsonl", "surrogate"),
        "conala": published("conala/conala-test.json", "surrogate"),
        "mmlu_test": published("mmlu/mmlu_test_1000.jsonl", "generalization"),
        "ifeval": published("ifeval/input_data.jsonl", "test", "key"),
        "gsm8k": published("gsm8k/test.jsonl", "test"),
        "math": published("math/math500_test.jsonl", "test", "unique_id"),
        "mbpp": published("mbppplus/MbppPlus.jsonl.gz", "test", "task_id"),
        "humaneval": published("humaneval/HumanEval.jsonl.gz", "test", "task_id"),
        "xstest": published("xstest/xstest_prompts.csv", "test", "id"),
    }
    report = audit_items(sets, within_purpose=True)
    assert [
        (found.kind, found.first, found.second, found.num_first, found.num_second) for found in report.overlaps
    ] == [
        ("exact", "mmlu_dev", "mmlu_test", 1, 1),
        ("13-gram", "mmlu_dev", "mmlu_test", 11, 71),
        ("13-gram", "mmlu_dev", "math", 1, 1),
        ("13-gram", "mmlu_test", "math", 1, 1),
    ]
    assert report.overlaps[3].examples == (("320", "test/algebra/425.json"),)
