"""The generalization tasks of mergebench-v1: items from published rows, and scores through lm-eval's evaluator."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from answering_model import AnsweringModel, evaluate
from v1_rows_general import PUBLISHED_ROWS

from mergebench_core.tracks.mergebench_v1.item_sets import HubSource
from mergebench_core.tracks.mergebench_v1.sets.general import SETS, TASKS, adapt_mmlu, adapt_pubmedqa
from mergebench_core.tracks.mergebench_v1.tasks import general

TASK_FOLDER = Path(general.__file__).parent
DATA = Path(os.environ.get("MERGEBENCH_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SET_BY_NAME = {items.name: items for items in SETS}
TASK_BY_NAME = {task.name: task for task in TASKS}
NUM_ROWS = 24


def published(source, num_rows=NUM_ROWS):
    if isinstance(source, HubSource):
        return PUBLISHED_ROWS[f"{source.repo}|{source.config or ''}|{source.split}"](num_rows)
    return PUBLISHED_ROWS[f"{source.repo}|{source.path}"](num_rows // 2)


def items_of(name):
    return SET_BY_NAME[name].adapt(*(published(source) for source in SET_BY_NAME[name].sources))


def run(name, answers, folder, suite="full"):
    """Return the results by key, and the scores by item id under the ranked metric."""
    lines = [json.dumps(item) for item in items_of(name)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    results, samples = evaluate(name, TASK_FOLDER, folder, AnsweringModel(answers), suite)
    metric, _, filter_name = TASK_BY_NAME[name].metric.partition(",")
    assert {sample["filter"] for sample in samples} == {filter_name}
    return results, {sample["doc"]["id"]: sample[metric] for sample in samples}


GOLD = {
    "mmlu": lambda item: item["answer"],
    "triviaqa": lambda item: f" {item['aliases'][-1].upper()} ",
    "squadv2": lambda item: f" {(item['answers'] or ['unanswerable'])[-1]}",
    "coqa": lambda item: f" {item['references'][0]}",
    "pubmedqa": lambda item: item["answer"],
    "wmt14_fr_en": lambda item: f" {item['reference']}",
}
WRONG = {
    "mmlu": lambda item: (item["answer"] + 1) % 4,
    "triviaqa": lambda item: " Atlantis",
    "squadv2": lambda item: " unanswerable" if item["answers"] else " the mayor",
    "coqa": lambda item: " unknown",
    "pubmedqa": lambda item: (item["answer"] + 1) % 3,
    "wmt14_fr_en": lambda item: " 今日は雨だ",
}


@pytest.mark.parametrize("name", TASK_BY_NAME)
def test_gold_answers_score_one_and_wrong_ones_zero(name, tmp_path):
    results, gold = run(name, GOLD[name], tmp_path)
    expected = {item["id"]: expected_gold(item) for item in items_of(name)}
    assert gold == pytest.approx(expected)
    assert results[TASK_BY_NAME[name].metric] == pytest.approx(sum(expected.values()) / len(expected))
    for key in TASK_BY_NAME[name].other_metrics:
        assert 0.0 <= results[key] <= 1.0
    _, wrong = run(name, WRONG[name], tmp_path)
    assert len(wrong) == len(expected)
    assert set(wrong.values()) == {0.0}


def expected_gold(item):
    """A reference of CoQA that another differs from scores less: `Ann` against `Ann I think` has F1 0.5, and is
    right where the other is left out."""
    return 0.75 if len(item.get("references", [])) == 2 else 1.0


def test_sets_and_tasks_agree():
    assert list(SET_BY_NAME) == list(TASK_BY_NAME)
    for name, task in TASK_BY_NAME.items():
        assert task.num_items == SET_BY_NAME[name].num_items
        assert (task.purpose, task.domain) == ("generalization", None)


@pytest.mark.parametrize("name", TASK_BY_NAME)
def test_columns_are_published_and_ids_unique(name):
    for source in SET_BY_NAME[name].sources:
        assert set(source.columns) <= set(published(source)[0])
    ids = [item["id"] for item in items_of(name)]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(item_id, str) for item_id in ids)


PROMPTS = {
    "mmlu": "The following are multiple choice questions (with answers) about high school world history.\n\n"
    "Case 23: which number is one more than 23?\nA. 25\nB. 26\nC. 27\nD. 24\nAnswer:",
    "triviaqa": "Question: Which town held fair number 23?\nAnswer:",
    "squadv2": 'Answer the question with words of the background, or with "unanswerable" if the background does '
    "not say.\n\nTitle: Bridge_0\n\nBackground: The old bridge of Bergen was opened in 1807 by the mayor. It has "
    "seven arches.\n\nQuestion: How many arches does it have?\n\nAnswer:",
    "coqa": "Once upon a time Ann of farm 23 had a white hen that lived in a barn.\n\nQ: Who had an animal?\n\n"
    "A: Ann\n\nQ: Which one?\n\nA: hen\n\nQ: What color was it?\n\nA: white\n\nQ: Where did it live?\n\nA:",
    "pubmedqa": "Abstract: We treated 61 patients.\nThe stay was measured in days (p < 0.05).\n"
    "Question: Does treatment 11 shorten the stay in hospital?\nAnswer:",
    "wmt14_fr_en": "French phrase: Le maire de St. Louis a ouvert la séance numéro 23.\nEnglish phrase:",
}


@pytest.mark.parametrize("name", TASK_BY_NAME)
def test_prompts_are_those_of_lm_eval(name, tmp_path):
    (tmp_path / f"{name}.jsonl").write_text(json.dumps(items_of(name)[-1]), encoding="utf-8")
    model = AnsweringModel(GOLD[name])
    evaluate(name, TASK_FOLDER, tmp_path, model)
    assert {request.args[0] for request in model.requests} == {PROMPTS[name]}


def test_choices_are_asked_as_letters(tmp_path):
    (tmp_path / "mmlu.jsonl").write_text(json.dumps(items_of("mmlu")[0]), encoding="utf-8")
    model = AnsweringModel(GOLD["mmlu"])
    evaluate("mmlu", TASK_FOLDER, tmp_path, model)
    assert [request.args[1] for request in model.requests] == [" A", " B", " C", " D"]


def test_mmlu_ids_are_those_of_its_translations():
    assert [item["id"] for item in items_of("mmlu")][7:10] == [
        "abstract_algebra/test/7",
        "anatomy/test/0",
        "anatomy/test/1",
    ]
    path = DATA / "mmlu" / "mmlu_dev.jsonl"
    if not path.is_file():
        pytest.skip(f"no {path}")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    ids = [item["id"] for item in adapt_mmlu(rows)]
    assert ids == [f"{row['subject']}/test/{row['index']}" for row in rows]
    assert len(ids) == 285


def test_copies_of_a_trivia_question_are_one_cluster():
    items = items_of("triviaqa")
    assert [(item["id"], item["cluster"]) for item in items[3:7]] == [
        ("tc_3", "tc_3"),
        ("tc_4", "tc_4"),
        ("tc_4/2", "tc_4"),
        ("tc_6", "tc_6"),
    ]


def test_questions_about_one_paragraph_are_one_cluster():
    assert set(Counter(item["cluster"] for item in items_of("squadv2")).values()) == {3}


def test_only_pubmedqa_test_items_are_kept():
    assert [item["id"] for item in items_of("pubmedqa")] == [str(21_645_374 + number) for number in range(12)]


@pytest.mark.parametrize(
    ("label", "message"), [("no", "says 'no'"), ("perhaps", "says 'perhaps'")], ids=["other", "unknown"]
)
def test_pubmedqa_labels_must_agree(label, message):
    rows = PUBLISHED_ROWS["qiaojin/PubMedQA|pqa_labeled|train"](2)
    with pytest.raises(ValueError, match=message):
        adapt_pubmedqa(rows, [{"key": "21645374", "value": label}])


def test_pubmedqa_wants_every_listed_item():
    with pytest.raises(ValueError, match="1 test ids have no row, such as 7"):
        adapt_pubmedqa(PUBLISHED_ROWS["qiaojin/PubMedQA|pqa_labeled|train"](2), [{"key": "7", "value": "yes"}])


def test_rows_out_of_form_are_named():
    row = {"subject": "anatomy", "question": "Which?", "choices": ["1", "2", "3"], "answer": 0}
    with pytest.raises(ValueError, match="row 0 of MMLU"):
        adapt_mmlu([row])
    with pytest.raises(ValueError, match=r"row 0 of TriviaQA \(tc_0\)"):
        SET_BY_NAME["triviaqa"].adapt([{"question_id": "tc_0", "question": "Who?", "answer": {"aliases": []}}])
    talk = {"questions": {"input_text": ["Who?"]}, "answers": {"input_text": []}, "additional_answers": None}
    with pytest.raises(ValueError, match="row 0 of CoQA: 1 questions and 0 answers"):
        SET_BY_NAME["coqa"].adapt([talk])


SQUAD = {"answers": ["the Treaty of Paris", "Treaty of Paris, 1783"]}


@pytest.mark.parametrize(
    ("item", "answer", "f1", "exact"),
    [
        (SQUAD, " Treaty of Paris", 1.0, 1.0),
        (SQUAD, "  treaty of PARIS.\nTitle: next", 1.0, 1.0),
        (SQUAD, " Treaty of Paris 1783", 1.0, 1.0),
        (SQUAD, " in Paris", 2 * 1 / (2 + 3), 0.0),
        (SQUAD, " Paris Paris Paris", 2 * 1 / (3 + 3), 0.0),
        (SQUAD, " the", 0.0, 0.0),
        (SQUAD, "", 0.0, 0.0),
        (SQUAD, " unanswerable", 0.0, 0.0),
        (SQUAD, " unanswerable, but perhaps Treaty of Paris", 0.0, 0.0),
        ({"answers": []}, " unanswerable", 1.0, 1.0),
        ({"answers": []}, " Unanswerable.", 1.0, 1.0),
        ({"answers": []}, ' "unanswerable" because nothing is said', 1.0, 1.0),
        ({"answers": []}, "\n", 0.0, 0.0),
        ({"answers": []}, " the", 0.0, 0.0),
        ({"answers": []}, " It is unanswerable", 0.0, 0.0),
        ({"answers": []}, " Paris", 0.0, 0.0),
        ({"answers": ["The"]}, " unanswerable", 1.0, 1.0),  # no words to find, as in the official script
        ({"answers": ["The"]}, "", 0.0, 0.0),
    ],
)
def test_squad_scores(item, answer, f1, exact):
    scores = general.score_squad(item, [answer])
    assert (scores["f1"], scores["exact"]) == pytest.approx((f1, exact))
    others = {"HasAns_f1", "HasAns_exact"} if item["answers"] else {"NoAns_exact"}
    assert set(scores) - {"f1", "exact", "empty"} == others
    assert scores["empty"] == float(not answer.strip())


def test_squad_means_are_over_items_with_and_without_an_answer(tmp_path):
    results, _ = run("squadv2", lambda item: "unanswerable", tmp_path)
    assert results["f1,none"] == results["exact,none"] == pytest.approx(8 / 24)
    assert results["NoAns_exact,none"] == 1.0
    assert results["HasAns_f1,none"] == results["HasAns_exact,none"] == 0.0
    assert results["empty,none"] == 0.0


def test_a_model_that_says_nothing_scores_zero_in_squad(tmp_path):
    results, _ = run("squadv2", lambda item: "\n", tmp_path)
    assert results["f1,none"] == results["exact,none"] == results["NoAns_exact,none"] == 0.0
    assert results["empty,none"] == 1.0


@pytest.mark.parametrize(
    ("references", "answer", "f1", "em"),
    [
        (["white"], " White.\n\nQ: next", 1.0, 1.0),
        (["white"], "white and grey", 2 * 1 / 4, 0.0),
        (["yes", "Yes, he did"], "yes", (0.5 + 1.0) / 2, 0.5),
        (["yes", "no", "Yes, he did"], "yes", 1.0, 1.0 * 2 / 3),
        (["yes"], "", 0.0, 0.0),
    ],
)
def test_coqa_leaves_each_reference_out_once(references, answer, f1, em):
    if len(references) == 3:
        f1 = (0.5 + 1.0 + 1.0) / 3
    scores = general.score_coqa({"references": references}, [answer])
    assert (scores["f1"], scores["em"]) == pytest.approx((f1, em))


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        (" st louis", True),
        (" St. Louis", True),
        ("City of St Louis", True),
        (" Saint Louis", False),
        (" St", False),
        ("", False),
    ],
)
def test_trivia_is_compared_without_case_and_punctuation(answer, is_right, tmp_path):
    item = {"id": "tc_1", "cluster": "tc_1", "question": "Where", "aliases": ["St. Louis", "City of St. Louis"]}
    (tmp_path / "triviaqa.jsonl").write_text(json.dumps(item), encoding="utf-8")
    results, _ = evaluate("triviaqa", TASK_FOLDER, tmp_path, AnsweringModel(lambda item: answer))
    assert results["exact_match,remove_whitespace"] == float(is_right)


def chrf_by_hand(reference, translation, max_order=6, beta=2.0):
    """chrF after Popović (2015) with sacrebleu's choices: no spaces, mean over the orders that both texts have."""
    reference, translation = "".join(reference.split()), "".join(translation.split())
    precisions, recalls = [], []
    for order in range(1, max_order + 1):
        wanted = Counter(reference[i : i + order] for i in range(len(reference) - order + 1))
        given = Counter(translation[i : i + order] for i in range(len(translation) - order + 1))
        if wanted and given:
            shared = sum((wanted & given).values())
            precisions.append(shared / sum(given.values()))
            recalls.append(shared / sum(wanted.values()))
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    if precision + recall == 0.0:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


@pytest.mark.parametrize(
    "translation", ["The mayor of Graz opened meeting 4.", "Le maire a ouvert", "mayor", "The The The", "x"]
)
def test_translation_score_is_sentence_chrf(translation):
    reference = "The mayor of Graz opened meeting number 4."
    scores = general.score_translation({"reference": reference}, [f" {translation}\nFrench phrase:"])
    assert scores["chrf"] == pytest.approx(chrf_by_hand(reference, translation), abs=1e-6)
    assert scores["bleu"] == (reference, translation)


def test_an_empty_translation_scores_zero():
    assert general.score_translation({"reference": "Hello."}, [""])["chrf"] == 0.0


def test_corpus_bleu_is_recorded_in_the_unit_interval(tmp_path):
    results, _ = run("wmt14_fr_en", GOLD["wmt14_fr_en"], tmp_path)
    assert results["bleu,none"] == pytest.approx(1.0)
    # 4 of 4 words, 2 of 3 pairs, 1 of 2 triples, 0 of 1: smoothed by halving, sacrebleu's `exp`, to 1/2.
    by_hand = (4 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25
    assert general.corpus_bleu([("a b c d", "a b c d")]) == pytest.approx(1.0)
    assert general.corpus_bleu([("a b c d e", "d a b c e")]) < 1.0
    assert general.corpus_bleu([("a b c d", "d a b c")]) == pytest.approx(by_hand)


def test_lite_suite_scores_its_subset(tmp_path):
    item_set = SET_BY_NAME["triviaqa"]
    items = item_set.adapt(published(*item_set.sources, 550))
    (tmp_path / "triviaqa.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    _, samples = evaluate("triviaqa", TASK_FOLDER, tmp_path, AnsweringModel(GOLD["triviaqa"]), "lite")
    assert len(samples) == item_set.num_lite_items
