"""The six generalization sets: what a merged model should not have forgotten.

The paper names the sets only; its metrics, shots and splits were never published. Here they are those of lm-eval's
tasks of the same names, at 0 shots, with the exceptions that the YAML files state. Licences are as on the cards of
the data sets: the paper does not list them for these six.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mergebench_core.tracks.mergebench_v1.item_sets import FileSource, HubSource, Item, ItemSet, Row
from mergebench_core.tracks.mergebench_v1.sets.math import mmlu_source
from mergebench_core.tracks.track import Decoding, Task

BY_CONSTRUCTION = tuple(("mmlu", f"m_mmlu_{language}") for language in ("fr", "es", "de", "ru"))
"""Pairs of sets that share questions because one translates the other; for the audit."""
PUBMEDQA_LABELS = ("yes", "no", "maybe")
_GREEDY = Decoding(max_tokens=256)
"""256 is lm-eval's default; its tasks for these sets state none."""


def adapt_mmlu(rows: Sequence[Row]) -> list[Item]:
    """Return the items of MMLU; the id `<subject>/test/<number in the subject>` is that of its translations."""
    seen: Counter[str] = Counter()
    items = []
    for number, row in enumerate(rows):
        subject = str(row["subject"])
        if len(row["choices"]) != 4 or row["answer"] not in range(4):
            raise ValueError(f"row {number} of MMLU: wanted four choices and an answer from 0 to 3")
        items.append(
            {
                "id": f"{subject}/test/{seen[subject]}",
                "subject": subject,
                "question": row["question"],
                "choices": list(row["choices"]),
                "answer": int(row["answer"]),
            }
        )
        seen[subject] += 1
    return items


def adapt_triviaqa(rows: Sequence[Row]) -> list[Item]:
    """Return the items of TriviaQA.

    The set joins questions with evidence from the web and from Wikipedia, and without the evidence a question that
    has both is there twice: its copies are one cluster.
    """
    seen: Counter[str] = Counter()
    items = []
    for number, row in enumerate(rows):
        question, aliases = str(row["question_id"]), list(row["answer"]["aliases"])
        if not aliases:
            raise ValueError(f"row {number} of TriviaQA ({question}): no alias of the answer")
        seen[question] += 1
        copy = "" if seen[question] == 1 else f"/{seen[question]}"
        items.append({"id": question + copy, "cluster": question, "question": row["question"], "aliases": aliases})
    return items


def adapt_squadv2(rows: Sequence[Row]) -> list[Item]:
    """Return the items of SQuAD 2.0; questions about one paragraph are one cluster."""
    paragraphs: dict[str, int] = {}
    return [
        {
            "id": str(row["id"]),
            "cluster": f"{row['title']}/{paragraphs.setdefault(row['context'], len(paragraphs))}",
            "title": row["title"],
            "context": row["context"],
            "question": row["question"],
            "answers": list(row["answers"]["text"]),
        }
        for row in rows
    ]


def adapt_coqa(rows: Sequence[Row]) -> list[Item]:
    """Return one item per story of CoQA: its last question, with the conversation before it."""
    return [_coqa_item(number, row) for number, row in enumerate(rows)]


def _coqa_item(number: int, row: Row) -> Item:
    questions, answers = list(row["questions"]["input_text"]), list(row["answers"]["input_text"])
    if not questions or len(questions) != len(answers):
        raise ValueError(f"row {number} of CoQA: {len(questions)} questions and {len(answers)} answers")
    references = {answers[-1].lower(): answers[-1]}
    for answer in _other_answers(row, len(questions) - 1):
        references.setdefault(answer.lower(), answer)
    return {
        "id": str(row["id"]),
        "story": row["story"],
        "questions": questions,
        "answers": answers[:-1],
        "references": list(references.values()),
    }


def _other_answers(row: Row, turn: int) -> Iterator[str]:
    """Yield what the other annotators answered at a turn."""
    for _, annotation in sorted((row["additional_answers"] or {}).items()):
        yield annotation["input_text"][turn]


def adapt_pubmedqa(rows: Sequence[Row], tests: Sequence[Row]) -> list[Item]:
    """Return the test items of PubMedQA: those of `tests`, the authors' list of ids (`key`) and labels."""
    labels: dict[str, Any] = {str(test["key"]): test["value"] for test in tests}
    items = [_pubmedqa_item(row, labels) for row in rows if str(row["pubid"]) in labels]
    if missing := sorted(labels.keys() - {item["id"] for item in items}):
        raise ValueError(f"PubMedQA: {len(missing)} test ids have no row, such as {missing[0]}")
    return items


def _pubmedqa_item(row: Row, labels: dict[str, Any]) -> Item:
    pubid, decision = str(row["pubid"]), row["final_decision"]
    if decision not in PUBMEDQA_LABELS or decision != labels[pubid]:
        raise ValueError(
            f"row {pubid} of PubMedQA: its label is {decision!r}, the list of tests says {labels[pubid]!r}"
        )
    return {
        "id": pubid,
        "question": row["question"],
        "contexts": list(row["context"]["contexts"]),
        "answer": PUBMEDQA_LABELS.index(decision),
    }


def adapt_wmt14(rows: Sequence[Row]) -> list[Item]:
    """Return the items of WMT14 from French to English; the id is the number of the sentence."""
    return [
        {"id": str(number), "source": row["translation"]["fr"], "reference": row["translation"]["en"]}
        for number, row in enumerate(rows)
    ]


SETS: tuple[ItemSet, ...] = (
    ItemSet(
        name="mmlu",
        sources=(mmlu_source("test"),),
        adapt=adapt_mmlu,
        num_items=14_042,
        num_lite_items=1000,
    ),
    ItemSet(
        name="triviaqa",
        sources=(
            HubSource(
                repo="mandarjoshi/trivia_qa",
                config="rc.nocontext",
                split="validation",
                columns=("question", "question_id", "answer"),
                licence="unknown (its card)",
                file="rc.nocontext/validation-00000-of-00001.parquet",
            ),
        ),
        adapt=adapt_triviaqa,
        num_items=17_944,
        num_lite_items=500,
    ),
    ItemSet(
        name="squadv2",
        sources=(
            HubSource(
                repo="rajpurkar/squad_v2",
                split="validation",
                columns=("id", "title", "context", "question", "answers"),
                licence="CC-BY-SA-4.0",
                file="squad_v2/validation-00000-of-00001.parquet",
            ),
        ),
        adapt=adapt_squadv2,
        num_items=11_873,
        num_lite_items=500,
    ),
    ItemSet(
        name="coqa",
        sources=(
            HubSource(
                repo="EleutherAI/coqa",
                split="validation",
                columns=("id", "story", "questions", "answers", "additional_answers"),
                licence="other: by the source of the passage (its card)",
            ),
        ),
        adapt=adapt_coqa,
        num_items=500,
    ),
    ItemSet(
        name="pubmedqa",
        sources=(
            HubSource(
                repo="qiaojin/PubMedQA",
                config="pqa_labeled",
                split="train",
                columns=("pubid", "question", "context", "final_decision"),
                licence="MIT",
            ),
            FileSource(
                repo="pubmedqa/pubmedqa",
                path="raw/3e7616d288b52edaf38f5fd5c59821c7806bde86/data/test_ground_truth.json",
                sha256=None,
                columns=("key", "value"),
                licence="MIT",
            ),
        ),
        adapt=adapt_pubmedqa,
        num_items=500,
    ),
    ItemSet(
        name="wmt14_fr_en",
        sources=(
            HubSource(
                repo="wmt/wmt14",
                config="fr-en",
                split="test",
                columns=("translation",),
                licence="unknown (its card)",
                file="fr-en/test-00000-of-00001.parquet",
            ),
        ),
        adapt=adapt_wmt14,
        num_items=3003,
        num_lite_items=500,
    ),
)

TASKS: tuple[Task, ...] = (
    Task(
        name="mmlu",
        title="MMLU: exam questions from 57 subjects",
        purpose="generalization",
        domain=None,
        metric="acc,none",
        num_items=14_042,
        chance=0.25,
    ),
    Task(
        name="triviaqa",
        title="TriviaQA: trivia without evidence",
        purpose="generalization",
        domain=None,
        metric="exact_match,remove_whitespace",
        num_items=17_944,
        decoding=_GREEDY,
    ),
    Task(
        name="squadv2",
        title="SQuAD 2.0: questions about a paragraph, half without an answer",
        purpose="generalization",
        domain=None,
        metric="f1,none",
        num_items=11_873,
        chance=5945 / 11_873,  # giving up always
        other_metrics=("exact,none", "HasAns_f1,none", "HasAns_exact,none", "NoAns_exact,none", "empty,none"),
        decoding=_GREEDY,
    ),
    Task(
        name="coqa",
        title="CoQA: the last question of a conversation about a story",
        purpose="generalization",
        domain=None,
        metric="f1,none",
        num_items=500,
        other_metrics=("em,none",),
        decoding=_GREEDY,
    ),
    Task(
        name="pubmedqa",
        title="PubMedQA: yes, no or maybe from an abstract",
        purpose="generalization",
        domain=None,
        metric="acc,none",
        num_items=500,
        chance=276 / 500,  # always yes
    ),
    Task(
        name="wmt14_fr_en",
        title="WMT14: from French to English",
        purpose="generalization",
        domain=None,
        metric="chrf,none",
        num_items=3003,
        other_metrics=("bleu,none",),
        decoding=_GREEDY,
    ),
)
