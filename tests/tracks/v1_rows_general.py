"""Synthetic rows of the generalization sets, in the columns and nesting in which they are published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]

SUBJECTS = ("abstract_algebra", "anatomy", "high_school_world_history")
TOWNS = ("Bergen", "Lyon", "St. Louis", "Graz", "Porto", "Łódź", "Kyoto")
PUBMEDQA_FILE = "raw/3e7616d288b52edaf38f5fd5c59821c7806bde86/data/test_ground_truth.json"
DECISIONS = ("yes", "no", "yes", "maybe")


def mmlu(num_rows: int) -> Rows:
    """Rows by subject, one subject after the other."""
    per_subject = -(-num_rows // len(SUBJECTS))
    return [
        {
            "question": f" Case {number}: which number is one more than {number}?",
            "subject": SUBJECTS[number // per_subject],
            "choices": [str(number + 1 + (choice - number) % 4) for choice in range(4)],
            "answer": number % 4,
        }
        for number in range(num_rows)
    ]


def triviaqa(num_rows: int) -> Rows:
    """Rows of which every fifth repeats the question before it, as questions with two sources of evidence do."""
    return [_trivia_row(number if number % 5 else max(number - 1, 0)) for number in range(num_rows)]


def _trivia_row(number: int) -> dict[str, Any]:
    town = TOWNS[number % len(TOWNS)]
    aliases = [town, f"City of {town}", f"{town} (town)"]
    return {
        "question": f"Which town held fair number {number}",
        "question_id": f"tc_{number}",
        "question_source": "http://www.example.org/",
        "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
        "search_results": {"description": [], "filename": [], "rank": [], "title": [], "url": []},
        "answer": {
            "aliases": aliases,
            "normalized_aliases": [alias.lower() for alias in aliases],
            "matched_wiki_entity_name": "",
            "normalized_matched_wiki_entity_name": "",
            "normalized_value": town.lower(),
            "type": "WikipediaEntity",
            "value": town,
        },
    }


def squadv2(num_rows: int) -> Rows:
    """Rows of three questions per paragraph, the second of which has no answer."""
    return [_squad_row(number) for number in range(num_rows)]


def _squad_row(number: int) -> dict[str, Any]:
    town, year = TOWNS[number // 3 % len(TOWNS)], 1800 + number // 3
    context = f"The old bridge of {town} was opened in {year} by the mayor. It has seven arches."
    questions = ("When was the bridge opened?", "Who paid for the bridge?", "How many arches does it have?")
    answers = ([str(year), f"in {year}"], [], ["seven", "seven arches", "seven"])[number % 3]
    return {
        "id": f"56ddde6b9a695914005b{number:04x}",
        "title": f"Bridge_{number // 30}",
        "context": context,
        "question": questions[number % 3],
        "answers": {"text": answers, "answer_start": [context.find(answer) for answer in answers]},
    }


def coqa(num_rows: int) -> Rows:
    """Rows with two to four turns; in every third the annotators differ at the last one."""
    return [_coqa_row(number) for number in range(num_rows)]


def _coqa_row(number: int) -> dict[str, Any]:
    animal = ("cat", "goat", "hen")[number % 3]
    questions = ["Who had an animal?", "Which one?", "What color was it?", "Where did it live?"][: 2 + number % 3]
    answers = ["Ann", animal, "white", "in a barn"][: 2 + number % 3]
    others = [answers[-1].upper(), answers[-1], f"{answers[-1]} I think" if number % 3 == 0 else answers[-1]]
    return {
        "id": f"3dr23u6we5exclen4th8uq9rb42{number:04d}",
        "source": "mctest",
        "story": f"Once upon a time Ann of farm {number} had a white {animal} that lived in a barn.",
        "questions": {"input_text": questions, "turn_id": list(range(1, len(questions) + 1))},
        "answers": _coqa_answers(answers),
        "additional_answers": {
            str(index): _coqa_answers([*answers[:-1], other]) for index, other in enumerate(others)
        },
    }


def _coqa_answers(answers: list[str]) -> dict[str, Any]:
    return {
        "span_start": [0] * len(answers),
        "span_end": [1] * len(answers),
        "span_text": answers,
        "input_text": answers,
        "turn_id": list(range(1, len(answers) + 1)),
    }


def pubmedqa(num_rows: int) -> Rows:
    """Rows of the labelled set."""
    return [
        {
            "pubid": 21_645_374 + number,
            "question": f"Does treatment {number} shorten the stay in hospital?",
            "context": {
                "contexts": [f"We treated {50 + number} patients.", "The stay was measured in days (p < 0.05)."],
                "labels": ["METHODS", "RESULTS"],
                "meshes": ["Humans", "Length of Stay"],
                "reasoning_required_pred": ["y", "e", "s"],
                "reasoning_free_pred": ["y", "e", "s"],
            },
            "long_answer": "The stay was shorter in some of the groups.",
            "final_decision": DECISIONS[number % len(DECISIONS)],
        }
        for number in range(num_rows)
    ]


def pubmedqa_tests(num_rows: int) -> Rows:
    """The pairs of the authors' object from id to label: the first `num_rows` of `pubmedqa`."""
    return [{"key": str(row["pubid"]), "value": row["final_decision"]} for row in pubmedqa(num_rows)]


def wmt14(num_rows: int) -> Rows:
    """Rows of sentence pairs."""
    return [
        {
            "translation": {
                "fr": f"Le maire de {town} a ouvert la séance numéro {number}.",
                "en": f"The mayor of {town} opened meeting number {number}.",
            }
        }
        for number in range(num_rows)
        for town in [TOWNS[number % len(TOWNS)]]
    ]


PUBLISHED_ROWS: dict[str, Callable[[int], Rows]] = {
    "cais/mmlu|all|test": mmlu,
    "mandarjoshi/trivia_qa|rc.nocontext|validation": triviaqa,
    "rajpurkar/squad_v2||validation": squadv2,
    "EleutherAI/coqa||validation": coqa,
    "qiaojin/PubMedQA|pqa_labeled|train": pubmedqa,
    f"pubmedqa/pubmedqa|{PUBMEDQA_FILE}": pubmedqa_tests,
    "wmt/wmt14|fr-en|test": wmt14,
}
