"""Checks answers against IFEval's verifiable instructions, offline and the same way every time.

The checkers are lm-eval's (`lm_eval.tasks.ifeval.instructions`, 0.4.13), with four deviations:

- Importing them would download NLTK's `punkt_tab`. It is not: sentences are parted by NLTK's Punkt algorithm with
  a fixed list of abbreviations in place of the trained model, whether or not the model is installed. It matters
  for the number of sentences, and for words in capitals only where a sentence ends.
- langdetect draws at random; its seed is fixed.
- A letter that is none of a-z ('#' and '!' in two of IFEval's prompts) is counted. lm-eval draws another one.
- An answer that makes a checker fail, such as JSON too deep to parse, does not follow the instruction.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from mergebench_core.errors import MergebenchError

_ABBREVIATIONS = (
    "mr mrs ms dr prof sr jr st rev gen col capt lt sgt gov sen rep hon pres mt ave blvd rd inc ltd co corp llc"
    " bros dept est assn univ vs etc al e.g i.e cf ca approx no nos vol vols ed eds fig figs pp op cit jan feb mar"
    " apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun a.m p.m u.s u.k u.n d.c ph.d m.d b.a m.a"
    " b.c a.d p.s p.p.s r.s.v.p"
)
"""In lower case, without the last full stop, as Punkt keeps them."""

_LONG_SPACE = re.compile(r"(\s{500})\s+")
"""Cut to its start: the checkers' patterns take the square of its length, and it changes no verdict."""


class Share(float):
    """Fraction of one answer's instructions that it follows; knows how many there are."""

    num_instructions: int

    @classmethod
    def of(cls, followed: Sequence[bool]) -> Share:
        """Return the fraction of true values."""
        share = cls(sum(followed) / len(followed))
        share.num_instructions = len(followed)
        return share


def mean_over_instructions(shares: Iterable[Share]) -> float:
    """Return the fraction of all instructions that are followed: IFEval's instruction-level accuracy."""
    pairs = [(float(share) * share.num_instructions, share.num_instructions) for share in shares]
    return sum(followed for followed, _ in pairs) / sum(number for _, number in pairs)


def no_target(item: Mapping[str, object]) -> str:
    """Return no target: no text is the right one."""
    return ""


@cache
def _sentence_splitter() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS.split())
    return PunktSentenceTokenizer(parameters)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of an English text."""
    return list(_sentence_splitter().tokenize(text))


def count_capital_words(text: str) -> int:
    """Return how many of NLTK's words are all in capitals; a hyphenated word is one."""
    from nltk.tokenize import NLTKWordTokenizer

    words = (word for sentence in split_sentences(text) for word in NLTKWordTokenizer().tokenize(sentence))
    return sum(word.isupper() for word in words)


def _load_instructions() -> Any:
    """Import lm-eval's checkers as if NLTK's model were there, so that nothing is downloaded or printed."""
    try:
        import langdetect
        import nltk

        find = nltk.data.find
        nltk.data.find = lambda *_, **__: None
        try:
            from lm_eval.tasks.ifeval import instructions, instructions_registry
        finally:
            nltk.data.find = find
    except ImportError as error:
        raise MergebenchError(
            f"checking IFEval's answers needs the package '{error.name}'; pip install 'mergebench[run]' brings it"
        ) from None
    langdetect.DetectorFactory.seed = 0
    logging.getLogger(instructions.__name__).setLevel(logging.CRITICAL)  # it logs whole answers
    return instructions, dict(instructions_registry.INSTRUCTION_DICT)


def _own_checkers(instructions: Any) -> dict[str, Any]:
    """Return the checkers that differ from lm-eval's, by type."""

    class NumberOfSentences(instructions.NumberOfSentences):  # type: ignore[misc]
        def check_following(self, value: str) -> bool:
            given = self.get_instruction_args()
            return _holds(len(split_sentences(value)), given["relation"], given["num_sentences"])

    class CapitalWordFrequency(instructions.CapitalWordFrequencyChecker):  # type: ignore[misc]
        def check_following(self, value: str) -> bool:
            given = self.get_instruction_args()
            return _holds(count_capital_words(value), given["capital_relation"], given["capital_frequency"])

    class LetterFrequency(instructions.LetterFrequencyChecker):  # type: ignore[misc]
        def build_description(self, *, letter: str, let_frequency: int, let_relation: str) -> str:
            self._given = (letter.lower(), let_relation, let_frequency)
            return ""

        def check_following(self, value: str) -> bool:
            letter, relation, frequency = self._given
            return _holds(value.lower().count(letter), relation, frequency)

    return {
        "length_constraints:number_sentences": NumberOfSentences,
        "change_case:capital_word_frequency": CapitalWordFrequency,
        "keywords:letter_frequency": LetterFrequency,
    }


def _holds(number: int, relation: str, threshold: int) -> bool:
    return number < threshold if relation == "less than" else number >= threshold


@cache
def checkers() -> dict[str, Any]:
    """Return the checker class of each type of instruction.

    Raises:
        MergebenchError: lm-eval's extra for IFEval is not installed.
    """
    instructions, registered = _load_instructions()
    return {**registered, **_own_checkers(instructions)}


def _checks(item: Mapping[str, Any]) -> list[Callable[[str], bool]]:
    """Return one check per instruction of the item."""

    def made(name: str, given: Mapping[str, Any]) -> Callable[[str], bool]:
        checker = checkers()[name](name)
        checker.build_description(**given)

        def check(answer: str) -> bool:
            try:
                return bool(answer.strip()) and bool(checker.check_following(answer))
            except (ValueError, LookupError, ArithmeticError, RecursionError):
                return False

        return check

    return [made(name, given) for name, given in json.loads(item["instructions"])]


def loose_variants(answer: str) -> list[str]:
    """Return the answer, and it with and without asterisks, first line, last line: IFEval's loose reading."""
    lines = answer.split("\n")
    parts = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys([*parts, *(part.replace("*", "") for part in parts)]))


def score_instructions(item: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score an answer strictly and loosely: whether all instructions are followed, and what share of them.

    Args:
        item: its `instructions` are JSON text, `[type, arguments]` pairs.
        results: the answer.
    """
    answer = re.sub(_LONG_SPACE, r"\1", results[0])
    checks, variants = _checks(item), loose_variants(answer)
    strict = [check(answer) for check in checks]
    loose = [kept or any(map(check, variants[1:])) for kept, check in zip(strict, checks, strict=True)]
    return {
        "prompt_level_strict_acc": float(all(strict)),
        "inst_level_strict_acc": Share.of(strict),
        "prompt_level_loose_acc": float(all(loose)),
        "inst_level_loose_acc": Share.of(loose),
    }
