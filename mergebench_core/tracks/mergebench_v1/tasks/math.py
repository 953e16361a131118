r"""Reads and compares the answers of GSM8K and MATH.

MATH's answer is the last complete `\boxed{...}` before the next problem; without one, what follows the last
'answer is', the last formula, or the last number. It, or the end of its chain of equations, is right if its normal
form is the gold answer's, or if math-verify finds the two equal.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
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


_BLANKS = re.compile(r"[^\S\n]{2,}")
_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_NEXT_PROBLEM = re.compile(r"^(?:[^\w\n]|_)*(?:Problem|Question|Exercise)\b", re.MULTILINE)
_ANSWER_IS = re.compile(r"answer\s*(?:is|:)[\s:*_]*(.+)", re.IGNORECASE)
_JOINT = re.compile(r"\s*(?:,\s*(?:or|and)?|\bor\b|\band\b)\s*(?=\$|\\[(\[])")
_REASON = re.compile(r"(?<![\s,;(])[\s,;(]+(?:because|since|not)\b|,\s+(?:as|so)\b", re.IGNORECASE)
_ALIGNED = r"(?:align|equation|gather|eqnarray|multline|split)(?:ed)?\*?"
# A dollar sign before a digit may be money: it opens a formula only if the sign that would close it can do so.
_FORMULA = re.compile(
    rf"\\begin\{{(?P<name>{_ALIGNED})\}}.*?\\end\{{(?P=name)\}}"
    r"|(?<!\\)\$\$(?:\\.|(?!\$\$)[^\\])+\$\$"
    r"|(?<!\\)\$(?=\d)(?:\\[a-zA-Z]+|\\.|[^$\\a-zA-Z])+\$(?!\d)"
    r"|(?<!\\)\$(?=\d)(?:\\.|(?!\n\s*\n)[^$\\])+(?<!\s)\$(?!\d)"
    r"|(?<!\\)\$(?!\d)(?:\\.|(?!\n\s*\n)[^$\\])+\$"
    r"|(?<!\\)\\\(.+?\\\)|(?<!\\)\\\[.+?\\\]",
    re.DOTALL,
)
_DELIMITER = re.compile(r"^(?:\$\$?|\\[(\[])|(?:(?<!\\)\$\$?|\\[)\]])$")
_ROWS = re.compile(rf"\\begin\{{({_ALIGNED})\}}(?P<rows>.*)\\end\{{\1\}}", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


def extract_answer(text: str) -> str:
    """Return the final answer that `text` states, or an empty text. A box that the end cut off is no answer."""
    text = _first_solution(_DRAWING.sub("", _BLANKS.sub(" ", text)))
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    text = _BOX.split(text)[0]
    stated = list(_ANSWER_IS.finditer(text))
    if stated:
        return _stated_answer(stated[-1])
    formula = _last_formula(text)
    if formula:
        return formula
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else ""


def _first_solution(text: str) -> str:
    """Return `text` up to the next problem that a model goes on to after it answered."""
    for heading in _NEXT_PROBLEM.finditer(text):
        solution = text[: heading.start()]
        if last_boxed(solution) is not None or _ANSWER_IS.search(solution):
            return solution
    return text


def _stated_answer(stated: re.Match[str]) -> str:
    """Return the formulas that follow 'answer is', or else the last one of its sentence, or the sentence."""
    formulas = list(_listed_formulas(stated.string, stated.start(1)))
    if formulas:
        return ", ".join(formulas)
    sentence = _REASON.split(re.split(r"\.(?:\s|$)", stated[1])[0])[0]
    return _last_formula(sentence) or _without_words(sentence.strip(" *`"))


def _listed_formulas(text: str, start: int) -> Iterator[str]:
    """Yield the formula that begins at `start`, and those that 'or', 'and' or a comma joins to it."""
    while formula := _FORMULA.match(text, start):
        yield _content(formula[0])
        joint = _JOINT.match(text, formula.end())
        if joint is None:
            return
        start = joint.end()


def _without_words(stated: str) -> str:
    """Return the number that words follow, as in '12 apples', or the text as it is."""
    number = re.match(r"^\$?(-?\d[\d,./]*)(?:\s+[a-zA-Z]{3,})+$", stated)
    return number[1] if number else stated


def _last_formula(text: str) -> str:
    formulas = list(_FORMULA.finditer(text))
    return _content(formulas[-1][0]) if formulas else ""


def _content(formula: str) -> str:
    """Return a formula without what delimits it; of aligned rows the last, without an '=' before it."""
    content = _DELIMITER.sub("", formula).strip()
    aligned = _ROWS.fullmatch(content)
    if not aligned:
        return content
    rows = re.sub(r"(?:\\\\|\s)+$", "", aligned["rows"])
    outside = _outside_brackets(rows)
    start = max((end.end() for end in re.finditer(r"\\\\(?:\[ *\])?", outside)), default=0)
    row = "".join(mark for mark, kept in zip(rows[start:], outside[start:], strict=True) if kept != "&")
    return row.strip().removeprefix("=").strip()


_OPENING = re.compile(r"[(\[{]|\\\{|\\begin\{\w+\*?\}")
_CLOSING = re.compile(r"[)\]}]|\\\}|\\end\{\w+\*?\}")
_MARK = re.compile(r"\\(?:begin|end)\{\w+\*?\}|\\.|.", re.DOTALL)


def _outside_brackets(text: str) -> str:
    """Return `text` with blanks for what stands in brackets of any kind, in braces, or in an environment."""
    depth, marks = 0, []
    for mark in _MARK.findall(text):
        if _CLOSING.fullmatch(mark):
            depth = max(depth - 1, 0)
        marks.append(" " * len(mark) if depth else mark)
        if _OPENING.fullmatch(mark):
            depth += 1
    return "".join(marks)


_DROPPED = re.compile(r"\\(?:left|right|quad|qquad|displaystyle)(?![a-zA-Z])|(?<!\\)\\[!,;: ]|\\\$|\$|~")
_DEGREE = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree|°")
_UNIT = re.compile(r"(?<=[\d}\)])\s*\\(?:text|mbox|mathrm|textrm)\s*\{\s*[a-zA-Z][^{}]*\}(?:\^\{?[23]\}?)?\s*$")
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathit)\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<![\d.,])-?\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d+)?(?![\d,])")
_BESIDE = re.compile(
    r"(=[^=]*?)(?:(?:\\q?quad(?![a-zA-Z])|\\\\|\\(?:text|mbox|textrm)\s*\{\s*(?:or|and)\s*\})\s*)+(?=[^=\\,;]*=)"
)
_FUNCTION = re.compile(r"^\s*[a-zA-Z]\([a-zA-Z]\)\s*=(?=[^=]+$)")
_NAMED = re.compile(r"^\s*\\?[a-zA-Z]+\s*(?:=|\\in(?![a-zA-Z]))(?=[^=]+$)")
_ONE = r"(\d|[a-zA-Z](?![a-zA-Z]))"
_SHORT_FRACTION = re.compile(rf"\\frac\s*{_ONE}\s*{_ONE}")
_HALF_SHORT_FRACTION = re.compile(rf"\\frac\s*(\{{[^{{}}]*\}})\s*{_ONE}|\\frac\s*{_ONE}\s*(\{{)")
_SHORT_ROOT = re.compile(rf"\\sqrt\s*{_ONE}")
_SLASHED = re.compile(r"^(-?)(\d+)/(\d+)$")


def prepare(answer: str) -> str:
    """Return `answer` without what says nothing of its value: units, degrees, the name of a function before '='.

    Equations that stand beside or below one another become a list.
    """
    text = answer.strip().rstrip(".,; \n\\")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = _DEGREE.sub("", _UNIT.sub("", text))
    text = _BESIDE.sub(lambda match: match[1].rstrip(" ,;") + ", ", re.sub(r"\\?%\s*$", "", text))
    text = _DROPPED.sub(lambda match: " " if match[0] in ("\\ ", "~") else "", text)
    text = _THOUSANDS.sub(_without_thousands, text)
    return _FUNCTION.sub("", text).strip()


def _without_thousands(number: re.Match[str]) -> str:
    """Return a number without its commas, and the two coordinates of `(1,234)` as they are."""
    if re.search(r"(?:[(\[]|\\\{)\s*$", number.string[: number.start()]):
        return number[0]
    return number[0].replace("{,}", "").replace(",", "")


def normal_form(answer: str) -> str:
    """Return a form in which equal ways of writing one answer are the same text."""
    text = _WRAPPED.sub(r"\1", prepare(answer))
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
    gold, stated = str(item["answer"]), extract_answer(results[0])
    pairs = [_comparable(gold, answer) for answer in (stated, _end_of_chain(gold, stated)) if answer]
    is_same = any(normal_form(wanted) == normal_form(given) for wanted, given in pairs)
    is_right = is_same or any(_have_one_value(wanted, given) for wanted, given in pairs)
    return {"acc": float(is_right), "exact_match": float(is_same)}


_EQUALS = re.compile(r"(?<![<>:\\])(?<!\s!)=")  # `2!=2` is an equation
_CHAINED = re.compile(rf"{_EQUALS.pattern}|\\approx(?![a-zA-Z])")
_LISTED = re.compile(r"[,;]|\\lor|\b(?:or|and)\b")


def _comparable(gold: str, answer: str) -> tuple[str, str]:
    """Return both prepared: of two equations the whole, else what follows the name of a variable."""
    wanted, given = prepare(gold), prepare(answer)
    if _EQUALS.search(wanted) and _EQUALS.search(given):
        return wanted, given
    return _NAMED.sub("", wanted), _NAMED.sub("", given)


def _end_of_chain(gold: str, answer: str) -> str:
    r"""Return what follows the last sign of equality of an answer like `2 \cdot 3 = 6`, or an empty text.

    A list of equations is no chain, and where the gold answer is an equation, the whole counts.
    """
    text = prepare(answer)
    signs = list(_CHAINED.finditer(_outside_brackets(text)))
    is_list = _LISTED.search(_outside_brackets(_WRAPPED.sub(r"\1", text)))
    if not signs or is_list or _EQUALS.search(_outside_brackets(gold)):
        return ""
    return text[signs[-1].end() :].strip()


def _have_one_value(gold: str, answer: str) -> bool:
    if _bases_differ(gold, answer) or _brackets_differ(gold, answer):
        return False
    return shared_checker().are_equal(gold, answer)


_BASE = re.compile(r"\d[\dA-F]*\s*_\s*\{?\s*(\d+)\s*\}?$")


def _bases_differ(gold: str, answer: str) -> bool:
    """Tell whether both name a base, and not the same one.

    A number without a base is in the one that the problem asks for: MATH's problems always name it.
    """
    wanted, given = _BASE.search(gold), _BASE.search(answer)
    return wanted is not None and given is not None and wanted[1] != given[1]


def _brackets_differ(gold: str, answer: str) -> bool:
    """Tell whether one is a tuple or an interval, and the other has no order: math-verify finds these equal."""
    kinds = (_brackets(gold), _brackets(answer))
    return kinds in {("(", "{"), ("(", ","), ("{", "(")}


def _brackets(text: str) -> str:
    """Return the bracket in which a list stands, a comma for one without brackets, or an empty text."""
    outside = "".join(_outside_brackets(text).split())
    for opening, closing in (("(", ")"), (r"\{", r"\}")):
        if outside == opening + closing:
            return opening[-1]
    return "," if "," in outside and "=" not in outside else ""
