"""What the audit reads in an item: its text, its answer, the words of both, and the id of its question."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

TEXT_FIELDS = (
    *("title", "story", "passage", "context", "contexts", "source"),
    *("prompt", "query", "instruction", "text", "intent", "problem", "question", "questions"),
    *("choices", "endings", "options", "option_a", "option_b", "option_c", "option_d", "option_e"),
)
"""Fields of an item that are its text, in this order; a list counts as its members in turn.

Choices are part of it, because stems such as `Which of these is true?` say nothing alone. Answers are not."""
ANSWER_FIELDS = (
    *("completion", "response", "output", "answers", "answer", "references", "reference"),
    *("rewritten_intent", "solution", "canonical_solution", "snippet", "code"),
)
"""Fields that are its answer. What is no text, such as the number of a choice, is left out."""
_SPLITS = "train|dev|val|validation|test"
_QUESTION_IDS = (
    re.compile(rf"(?:.*/)?(?P<subject>[\w-]+)/(?P<split>{_SPLITS})/(?P<name>[^/\s#]+)\Z"),
    re.compile(rf"(?:.*/)?(?P<split>{_SPLITS})/(?P<subject>[\w-]+)/(?P<name>[^/\s#]+)\Z"),
)
_TRAINING_FRAME = re.compile(
    r"\ABelow is an instruction [^\n]*\n\n### Instruction:\n(.*)\n\n### Response:\n\Z", re.DOTALL
)
_MARKS = re.compile(
    r"^(?:The following are multiple choice questions \(with answers\) about .*|[A-E]\.(?= )|Question:|Answer:)",
    re.MULTILINE,
)
"""What lm-eval's prompts add to a question: the description of a subject, letters of choices, labels."""


def audit_text(item: Mapping[str, Any]) -> str:
    """Return the text of an item: its `TEXT_FIELDS`, each on a line, without what a prompt adds to a question.

    The field `problem` of a program problem, a JSON object, is left out: it has the prompt again, and inputs.
    """
    is_program = bool(_program(item))
    return "\n".join(_lines(item, [field for field in TEXT_FIELDS if not (is_program and field == "problem")]))


def audit_answer(item: Mapping[str, Any]) -> str:
    """Return the answer of an item: its `ANSWER_FIELDS`, and those of its program problem, each on a line."""
    return "\n".join(line for part in (item, _program(item)) for line in _lines(part, ANSWER_FIELDS))


def audit_question_id(item: Mapping[str, Any]) -> str | None:
    """Return the id that an item's question has in every language, `<subject>/<split>/<name>`, or None.

    It is looked for at the end of the fields `question_id`, `cluster` and `id`, as MMLU, M_MMLU and M_ARC have it,
    or with the split before the subject. The splits `val` and `validation` are one.
    """
    for field in ("question_id", "cluster", "id"):
        for form in _QUESTION_IDS:
            found = form.match(str(item.get(field, "")))
            if found is not None:
                split = "val" if found["split"] == "validation" else found["split"]
                return f"{found['subject']}/{split}/{found['name']}"
    return None


def words(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits, after Unicode NFKC and case folding.

    Characters that are not seen, such as soft hyphens, part no words.
    """
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKC", text.translate(_invisible()).casefold())
    return re.findall(r"[^\W_]+", folded)


def _lines(item: Mapping[str, Any], fields: Iterable[str]) -> Iterator[str]:
    for field in fields:
        for text in _texts(item.get(field)):
            framed = _TRAINING_FRAME.match(text)
            yield _MARKS.sub("", framed[1] if framed else text)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a field; single letters stand for choices that the prompt spells out."""
    if isinstance(value, str) and not re.fullmatch("[A-E]", value):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _program(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the program problem of an item; empty where its field `problem` is a text or not there."""
    problem = item.get("problem")
    try:
        found = json.loads(problem) if isinstance(problem, str) and problem.startswith("{") else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@cache
def _invisible() -> dict[int, None]:
    """Return a table for `str.translate` that drops soft hyphens, zero-width and other format characters."""
    codes = range(sys.maxunicode + 1)
    return dict.fromkeys(code for code in codes if unicodedata.category(chr(code)) == "Cf")
