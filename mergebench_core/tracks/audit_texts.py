"""What the audit reads in an item: its text, its answer, the words of both, and the id of its question."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
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
    """Return the text of an item: its `TEXT_FIELDS`, each on a line, without what a prompt adds to a question."""
    return "\n".join(line for line in _lines(item, TEXT_FIELDS) if not _is_object(line))


def audit_answer(item: Mapping[str, Any]) -> str:
    """Return the answer of an item: its `ANSWER_FIELDS`, each on a line.

    Those of a JSON object in one of the `TEXT_FIELDS` count too: program problems are kept so.
    """
    objects = [json.loads(line) for line in _lines(item, TEXT_FIELDS) if _is_object(line)]
    return "\n".join(line for part in (item, *objects) for line in _lines(part, ANSWER_FIELDS))


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
    """Return the words of a text: runs of letters and digits, after Unicode NFKC and case folding."""
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text.casefold())
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


def _is_object(text: str) -> bool:
    try:
        return text.startswith("{") and isinstance(json.loads(text), dict)
    except ValueError:
        return False
