r"""Reads and compares the answers of GSM8K and MATH.

MATH's answer is the last complete `\boxed{...}`; without one, what follows the last 'answer is', the last formula
between dollar signs, or the last number. It is right if its normal form is the gold answer's, or if math-verify
finds the two equal.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergebench_core.errors import MergebenchError
from mergebench_core.tracks.mergebench_v1.tasks.math_equality import shared_checker

EXAMPLES_SHA256 = "5a9eb004b2b7cccac1fa9682f412d3656098ee073999f9f221589ad73990423f"
"""Of the eight examples of gsm8k_cot in lm-eval 0.4.13, as canonical JSON."""


_REQUEST = "Reason step by step, and put the final answer in \\boxed{}."


def gsm8k_examples() -> list[dict[str, str]]:
    """Return the eight worked examples of lm-eval's gsm8k_cot (Wei et al., arXiv:2201.11903).

    Raises:
        MergebenchError: the installed lm-eval has other ones.
    """
    import lm_eval
    import yaml

    path = Path(str(lm_eval.__file__)).parent / "tasks" / "gsm8k" / "gsm8k-cot.yaml"
    examples = yaml.safe_load(path.read_text(encoding="utf-8"))["fewshot_config"]["samples"]
    text = json.dumps(examples, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(text.encode()).hexdigest() != EXAMPLES_SHA256:
        raise MergebenchError(f"the examples of GSM8K in {path} are not the track's; install lm-eval 0.4.13")
    return list(examples)


def gsm8k_prompt(item: Mapping[str, Any]) -> str:
    """Return the question as lm-eval's gsm8k_cot puts it."""
    return f"Q: {item['question']}\nA:"


def gsm8k_target(item: Mapping[str, Any]) -> str:
    """Return the answer of an item, or the worked answer of an example."""
    return str(item["target"] if "target" in item else item["answer"])


def math_prompt(item: Mapping[str, Any]) -> str:
    """Return the problem with the request for a boxed answer, without examples."""
    return f"Problem: {item['problem']}\n\n{_REQUEST}\n\nSolution:"


_BOX = re.compile(r"\\(?:boxed|fbox) *")


def last_boxed(text: str) -> str | None:
    r"""Return what the last complete `\boxed{...}`, `\fbox{...}` or `\boxed x` of `text` holds, or None.

    Braces may be nested; an escaped brace is a character. A box that never closes is none.
    """
    ends = _closing_braces(text)
    for box in reversed(list(_BOX.finditer(text))):
        if not text.startswith("{", box.end()):
            content = re.split(r"[$\n]", text[box.end() :], maxsplit=1)[0].strip().rstrip(".,")
        elif box.end() in ends:
            content = text[box.end() + 1 : ends[box.end()]].strip()
        else:
            continue
        if content:
            return content
    return None


def _closing_braces(text: str) -> dict[int, int]:
    """Return the position of the closing brace of every opening one that has one."""
    ends: dict[int, int] = {}
    opened: list[int] = []
    for mark in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if mark[0] == "{":
            opened.append(mark.start())
        elif mark[0] == "}" and opened:
            ends[opened.pop()] = mark.start()
    return ends


_ANSWER_IS = re.compile(r"answer\s*(?:is|:)\s*:?\s*(.+)", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


def extract_answer(text: str) -> str:
    """Return the final answer that `text` states, or an empty text. A box that the end cut off is no answer."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    text = _BOX.split(text)[0]
    stated = _ANSWER_IS.findall(text)
    if stated:
        return _last_formula(stated[-1]) or _without_words(re.split(r"\.(?:\s|$)", stated[-1])[0].strip(" *`"))
    formula = _last_formula(text)
    if formula:
        return formula
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else ""


def _without_words(stated: str) -> str:
    """Return the number that words follow, as in '12 apples', or the text as it is."""
    number = re.match(r"^\$?(-?\d[\d,./]*)(?:\s+[a-zA-Z]{3,})+$", stated)
    return number[1] if number else stated


def _last_formula(text: str) -> str:
    found = _FORMULA.findall(text)
    return "".join(found[-1]).strip() if found else ""


_DROPPED = re.compile(r"\\(?:left|right|quad|qquad|displaystyle)(?![a-zA-Z])|(?<!\\)\\[!,;: ]|\\\$|\$|~")
_DEGREE = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree|°")
_UNIT = re.compile(r"(?<=[\d}\)])\s*\\(?:text|mbox|mathrm|textrm)\s*\{\s*[a-zA-Z][^{}]*\}(?:\^\{?[23]\}?)?\s*$")
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathit)\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<![\d.,])-?\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d+)?(?![\d,])")
_NAMED = re.compile(r"^\s*(?:[a-zA-Z]\([a-zA-Z]\)|\\?[a-zA-Z]+)\s*(?:=|\\in(?![a-zA-Z]))([^=]+)$")
_ONE = r"(\d|[a-zA-Z](?![a-zA-Z]))"
_SHORT_FRACTION = re.compile(rf"\\frac\s*{_ONE}\s*{_ONE}")
_HALF_SHORT_FRACTION = re.compile(rf"\\frac\s*(\{{[^{{}}]*\}})\s*{_ONE}|\\frac\s*{_ONE}\s*(\{{)")
_SHORT_ROOT = re.compile(rf"\\sqrt\s*{_ONE}")
_SLASHED = re.compile(r"^(-?)(\d+)/(\d+)$")


def prepare(answer: str) -> str:
    """Return `answer` without what says nothing of its value: units, degrees, a name before '='."""
    text = answer.strip().rstrip(".").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = _DEGREE.sub("", _UNIT.sub("", text))
    text = re.sub(r"\\?%\s*$", "", text)
    text = _DROPPED.sub(lambda match: " " if match[0] in ("\\ ", "~") else "", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace("{,}", "").replace(",", ""), text)
    named = _NAMED.match(text)
    return (named[1] if named else text).strip()


def normal_form(answer: str) -> str:
    """Return a form in which equal ways of writing one answer are the same text."""
    text = prepare(answer)
    text = _WRAPPED.sub(r"\1", text)
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text)
    text = _HALF_SHORT_FRACTION.sub(_full_fraction, text)
    text = re.sub(r"\s+", "", _SHORT_ROOT.sub(r"\\sqrt{\1}", text))
    text = _SLASHED.sub(r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"(?<!\d)\.(?=\d)", "0.", text)
    text = re.sub(r"^(-?\d+)\.0+$", r"\1", text)
    choice = re.fullmatch(r"\(?([A-Za-z])\)?", text)
    return choice[1] if choice else text


def _full_fraction(match: re.Match[str]) -> str:
    if match[1]:
        return f"\\frac{match[1]}{{{match[2]}}}"
    return f"\\frac{{{match[3]}}}{match[4]}"


def score_math(item: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score an answer against the item's: equal in value, and equal in normal form alone.

    Raises:
        MergebenchError: math-verify is not installed.
    """
    gold, answer = str(item["answer"]), extract_answer(results[0])
    is_same = bool(answer) and normal_form(answer) == normal_form(gold)
    is_right = is_same or (bool(answer) and shared_checker().are_equal(prepare(gold), prepare(answer)))
    return {"acc": float(is_right), "exact_match": float(is_same)}
