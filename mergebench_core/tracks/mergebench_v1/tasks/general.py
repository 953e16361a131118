"""Prompts and scorers of the generalization tasks. lm-eval calls them with an item and one answer."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(answer: str) -> list[str]:
    """Return the words that SQuAD's official script compares: no case, no ASCII punctuation, no articles."""
    return re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(_PUNCTUATION)).split()


def exact(reference: str, answer: str) -> float:
    """Return 1.0 where the words of both are the same, else 0.0."""
    return float(_words(reference) == _words(answer))


def f1(reference: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall of words, in [0, 1].

    Where either has no words, it is 1.0 if both have none, else 0.0.
    """
    wanted, given = _words(reference), _words(answer)
    if not wanted or not given:
        return float(wanted == given)
    num_shared = sum((Counter(wanted) & Counter(given)).values())
    return 2 * num_shared / (len(wanted) + len(given))


def _first_line(answer: str) -> str:
    return answer.strip().split("\n")[0]


def squad_target(item: Mapping[str, Any]) -> str:
    """Return what a model should answer."""
    answers: list[str] = item["answers"]
    return answers[0] if answers else "unanswerable"


def score_squad(item: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score an answer as SQuAD 2.0's official script does: the best over the references, in [0, 1].

    An item without a reference is right where the answer gives up: it begins with the word `unanswerable`. An
    empty answer does not, so that a model that says nothing scores nothing; `empty` is 1.0 for it. The keys with
    HasAns and NoAns are there only for items with and without references, so that their means are over those.
    """
    answer = _first_line(results[0])
    gives_up = _words(answer)[:1] == ["unanswerable"]
    given = "" if gives_up else answer
    references = [reference for reference in item["answers"] if _words(reference)]
    scores = {
        "f1": max((f1(reference, given) for reference in references), default=float(gives_up)),
        "exact": max((exact(reference, given) for reference in references), default=float(gives_up)),
        "empty": float(not answer),
    }
    if not item["answers"]:
        return {**scores, "NoAns_exact": scores["exact"]}
    return {**scores, "HasAns_f1": scores["f1"], "HasAns_exact": scores["exact"]}


def coqa_prompt(item: Mapping[str, Any]) -> str:
    """Return the story and the conversation up to the last question."""
    turns = zip_longest(item["questions"], item["answers"])
    lines = (f"Q: {question}\n\n" + ("A:" if reply is None else f"A: {reply}\n\n") for question, reply in turns)
    return f"{item['story']}\n\n" + "".join(lines)


def _leave_one_out(metric: Callable[[str, str], float], references: Sequence[str], answer: str) -> float:
    """Return the mean, over references left out in turn, of the best score against the others."""
    scores = [metric(reference, answer) for reference in references]
    if len(scores) == 1:
        return scores[0]
    return sum(max(scores[:index] + scores[index + 1 :]) for index in range(len(scores))) / len(scores)


def score_coqa(item: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score the first line of an answer as lm-eval's `coqa` does, in [0, 1].

    As in CoQA's official script each reference is left out once, so that people and models are measured alike;
    where references differ, even one of them scores below 1.0.
    """
    answer = _first_line(results[0])
    return {
        "f1": _leave_one_out(f1, item["references"], answer),
        "em": _leave_one_out(exact, item["references"], answer),
    }


def score_translation(item: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score the first line of a translation by sentence chrF (sacrebleu's defaults) in [0, 1].

    `bleu` is the pair of reference and translation, for `corpus_bleu`.
    """
    import sacrebleu

    translation = _first_line(results[0])
    chrf = sacrebleu.sentence_chrf(translation, [item["reference"]]).score / 100
    return {"chrf": min(chrf, 1.0), "bleu": (item["reference"], translation)}


def corpus_bleu(pairs: Sequence[tuple[str, str]]) -> float:
    """Return BLEU of all pairs of reference and translation together (sacrebleu's defaults), in [0, 1]."""
    import sacrebleu

    references, translations = zip(*pairs, strict=True)
    score = sacrebleu.corpus_bleu(list(translations), [list(references)]).score / 100
    return float(min(score, 1.0))
