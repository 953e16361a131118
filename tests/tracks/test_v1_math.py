"""GSM8K, MATH and MMLU STEM of mergebench-v1, through lm-eval's evaluator."""

import importlib.util
import json
import os
import re
import sys
import threading
from pathlib import Path

import pytest
import yaml
from answering_model import AnsweringModel, evaluate
from hypothesis import given, settings
from hypothesis import strategies as st
from v1_rows_math import PUBLISHED_ROWS, SUBJECTS_OF_MMLU, gsm8k_rows, math_rows, mmlu_rows

from mergebench_core.errors import MergebenchError
from mergebench_core.tracks.mergebench_v1.sets.math import (
    MATH_SUBJECTS,
    SETS,
    STEM_SUBJECTS,
    TASKS,
    adapt_gsm8k,
    adapt_math,
    adapt_stem,
)
from mergebench_core.tracks.mergebench_v1.tasks import math, math_equality
from mergebench_core.tracks.mergebench_v1.tasks.math import extract_answer, last_boxed, normal_form, score_math

TASK_FOLDER = Path(math.__file__).parent
LM_EVAL_TASKS = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks"
DATA = Path(os.environ.get("MERGEBENCH_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def real_rows(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there; set MERGEBENCH_DATA")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_items(folder, name, items):
    lines = [json.dumps(item, ensure_ascii=False) for item in items]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def adapt_algebra(rows):
    return adapt_math(rows, *[[]] * 6)


def made_up_math(num_rows):
    return adapt_math(*(math_rows(subject, num_rows) for subject in MATH_SUBJECTS))


# ---- GSM8K


@pytest.mark.parametrize("rows", ["gsm8k/test.jsonl", gsm8k_rows(20)], ids=["real", "made-up"])
def test_gsm8k_gold_and_wrong(rows, tmp_path):
    rows = real_rows(rows) if isinstance(rows, str) else rows
    items = adapt_gsm8k(rows)
    assert len(items) == len(rows)
    write_items(tmp_path, "gsm8k", items)
    right = AnsweringModel(lambda item: f" There are 3 of 12. The answer is {item['answer']}.")
    results, samples = evaluate("gsm8k", TASK_FOLDER, tmp_path, right)
    assert results["exact_match,flexible-extract"] == results["exact_match,strict-match"] == 1.0
    assert len(samples) == 2 * len(rows)
    wrong = AnsweringModel(lambda item: f" The answer is {item['answer']}1.")
    results, _ = evaluate("gsm8k", TASK_FOLDER, tmp_path, wrong, num_items=50)
    assert results["exact_match,flexible-extract"] == results["exact_match,strict-match"] == 0.0


@pytest.mark.parametrize(
    ("answer", "strict", "flexible"),
    [
        ("So it is $18.", 0.0, 1.0),
        ("The answer is 18 dollars.", 1.0, 1.0),
        ("The answer is $18.", 0.0, 1.0),
        ("The answer is 18. Then 5 more.", 1.0, 0.0),
        ("no number", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_gsm8k_reads_answers_in_two_ways(answer, strict, flexible, tmp_path):
    write_items(tmp_path, "gsm8k", [{"id": "0", "question": "How much?", "answer": "18"}])
    results, _ = evaluate("gsm8k", TASK_FOLDER, tmp_path, AnsweringModel(lambda item: answer))
    assert results["exact_match,strict-match"] == strict
    assert results["exact_match,flexible-extract"] == flexible


def test_gsm8k_prompt_holds_the_eight_examples(tmp_path):
    write_items(tmp_path, "gsm8k", [{"id": "0", "question": "How much?", "answer": "18"}])
    model = AnsweringModel(lambda item: "18")
    evaluate("gsm8k", TASK_FOLDER, tmp_path, model)
    own = yaml.safe_load((LM_EVAL_TASKS / "gsm8k" / "gsm8k-cot.yaml").read_text(encoding="utf-8"))
    shots = [f"Q: {shot['question']}\nA: {shot['target']}\n\n" for shot in own["fewshot_config"]["samples"]]
    prompt, settings = model.requests[0].args
    assert len(shots) == 8
    assert prompt == "".join(shots) + "Q: How much?\nA:"
    assert settings["until"] == own["generation_kwargs"]["until"]


def test_other_examples_are_refused(monkeypatch):
    monkeypatch.setattr(math, "EXAMPLES_SHA256", "0" * 64)
    with pytest.raises(MergebenchError, match=r"install lm-eval 0\.4\.13"):
        math.gsm8k_examples()


# ---- MATH: reading


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{\frac{1}{\sqrt{2}}} and more text {", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{1} then \boxed{\frac{2", "1"),
        (r"$\boxed 7$.", "7"),
        (r"\fbox{9}", "9"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\text{two \} braces}}", r"\text{two \} braces}"),
        (r"\boxed{}", None),
        (r"\boxed", None),
        (r"\boxed{5", None),
        ("no box", None),
        (r"\boxed {  3 }", "3"),
        (r"\boxed{\boxed{4}}", "4"),
    ],
)
def test_last_box(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("We get 3. The final answer is: $x+1$. Done with 7.", "x+1"),
        ("The answer is 4.5. Check: 9", "4.5"),
        ("the answer is **18**", "18"),
        ("The answer is 12 apples.", "12"),
        ("The answer is east", "east"),
        ("Answer: 6\nOr not", "6"),
        (r"thus \(y\), so \[ z^2 \]", "z^2"),
        ("we have $x=4$ and then $5$ of 6", "5"),
        ("there were 41, then 1,042", "1,042"),
        (r"half, $1/2$, is \boxed{0.", "1/2"),
        (r"The answer is $\$18.90$.", r"\$18.90"),
        (r"Each ticket costs \$12, so three cost \$36.", "36"),
        ("Each ticket costs $12, so three cost 3 * $12 = $36. So the total is 36 dollars.", "36"),
        ("It costs $12.\n\nThen $x=5$ of them are sold.", "x=5"),
        ("$ 7 $ and $12$", "12"),
        ("The answer is $5$ since $2+3=5$ and $x>0$.", "5"),
        (r"The answer is $\frac{9}{7}$, not $\frac{7}{9}$.", r"\frac{9}{7}"),
        ("The answer is 3 (since 1+2).", "3"),
        ("The answer is 3 because 3 + 4 = 7.", "3"),
        ("The answer is east, not west.", "east"),
        ("The answer is the value of $x$, which is $5$.", "5"),
        ("The answer is therefore $5$. Check: $x=2$ fits.", "5"),
        ("The answer is not $4$, but $5$.", "5"),
        ("The answer is\n\\[\n12\n\\]", "12"),
        ("**Answer:** $2$ and more", "2"),
        ("\\begin{align*}\nx &= \\sqrt{9} \\\\\n&= 3.\n\\end{align*}", "3."),
        (r"\begin{equation} x^2 \end{equation} is it", "x^2"),
        (r"\[ \begin{aligned} x &= 1 \\[2pt] y &= 2 \\ \end{aligned} \] so", "y = 2"),
        (
            r"\begin{align} v &= w \\ &= \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} \end{align}",
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        ),
        ('So $n=4$.\n\n[asy]\nlabel("$x$",(6,0));\n[/asy]', "n=4"),
        ('So $n=4$.\n\n[asy]\nlabel("$x$",(6', "n=4"),
        (r"\boxed{5", ""),
        ("nothing", ""),
        ("", ""),
    ],
)
def test_answers_without_a_box(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{2}\n\nProblem 2: what \\boxed{5}", "2"),
        ("$\\boxed{\n2\n}$.\n\n**Question:** what? \\boxed{5}", "2"),
        ("The answer is 2.\n\n### Exercise 7\nThe answer is 5.", "2"),
        ("Problem: what?\n\\boxed{2}", "2"),
        ("First \\boxed{\n\nProblem 2: \\boxed{2}", "2"),
        ("\\boxed{2} was the Problem: \\boxed{3}", "3"),
        ("\\boxed{2}\nProblems like this \\boxed{3}", "3"),
    ],
)
def test_the_next_problem_is_not_read(text, answer):
    assert extract_answer(text) == answer


RIGHT = [
    (r"\text{(A)}", r"\boxed{A}"),
    ("A", r"\boxed{\textbf{(A)}}"),
    (r"\frac{1}{2}", r"\boxed{\frac12}"),
    (r"\frac{1}{2}", r"\boxed{1/2}"),
    (r"\frac12", r"\boxed{.5}"),
    (r"\frac{3}{4}", r"\boxed{\dfrac{3}{4}}"),
    (r"-\frac{3}{4}", r"\boxed{\frac{-3}{4}}"),
    (r"\frac{9}{7}", r"\boxed{\frac 97}"),
    (r"10\text{ cm}", r"\boxed{10}"),
    ("10", r"\boxed{10 \, \text{cm}^2}"),
    (r"864 \mbox{ inches}^2", r"\boxed{864}"),
    ("[-2,7]", r"\boxed{x \in [-2, 7]}"),
    (r"[0,1)\cup(2,3]", r"\boxed{\left[0, 1\right) \cup \left(2, 3\right]}"),
    (r"\{1,2,3\}", r"\boxed{\left\{3, 2, 1\right\}}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}"),
    (r"\begin{pmatrix} 1 & 0 \\ 0 & 1/2 \end{pmatrix}", r"\boxed{\begin{bmatrix}1&0\\ 0&\frac12\end{bmatrix}}"),
    (r"90^\circ", r"\boxed{90}"),
    ("90", r"\boxed{90^{\circ}}"),
    ("1{,}234{,}567", r"\boxed{1,234,567}"),
    (r"10,\!080", r"\boxed{10080}"),
    ("3", r"\boxed{2} was wrong, \boxed{3} is not"),
    ("3", r"\boxed{3} and then \boxed{\frac{1}{2"),
    ("7", r"\boxed{7}. I checked it 99 times."),
    ("3", r"\boxed{x = 3}"),
    ("x=5", r"\boxed{5}"),
    ("y = 2x + 3", r"\boxed{2x+3}"),
    (r"50\%", r"\boxed{50}"),
    (r"\$18.90", r"\boxed{18.9}"),
    (r"2\sqrt{3}", r"\boxed{\sqrt{12}}"),
    (r"\sqrt{2}", r"\boxed{\sqrt2}"),
    ("x^2+2x+1", r"\boxed{(x+1)^2}"),
    ("-2,1", r"\boxed{1,-2}"),
    ("5", r"\boxed{5.0}"),
    (r"\text{east}", "The answer is east."),
    (r"\$18.90", r"The answer is $\$18.90$."),
    (r"\$32,\!348", r"so it is $\$32,348.$"),
    ("-2 + 7i", r"\boxed{i(7 + 2i) = -2 + 7i}"),
    ("28800", r"\boxed{2\cdot5!\cdot5!=2\cdot120\cdot120=28800}"),
    (r"10,\!080", r"\boxed{7!\times 2!=10,\!080}"),
    ("(-1,6)", r"\boxed{\left(\frac{-5+3}{2},\frac{5+7}{2}\right)=(-1,6)}"),
    ("12", r"so it is $3 \cdot 4 = 12,$"),
    (r"\$32,\!348", r"so it is $\$24,\!000 \cdot 1.01^{30} \approx \$32,\!348$"),
    (r"6 - 5i", "\\begin{align*}\nw &= (4 - 2i) + 2 - 3i \\\\\n&= 6 - 5i.\n\\end{align*}"),
    ("-1,-2", r"\boxed{-1, -2.}"),
    ("2516_8", r"\boxed{2516_{8}}"),
    ("4210_{5}", r"\boxed{4210}"),
    ("a_1+a_2", r"\boxed{a_2+a_1}"),
    (".0000672", r"\boxed{6.72 \times 10^{-5}}"),
    (".0000672", r"\boxed{\frac{42}{625000}}"),
    (r"\frac{1}{32768}", r"\boxed{0.0000305175781}"),
    ("10^{400}", r"\boxed{10 \cdot 10^{399}}"),
    ("6+9i", r"\boxed{\frac{12 + 18i}{2}}"),
    ("(1,2)", r"\boxed{x=1, y=2}"),
    ("(1,2)", r"\boxed{(x,y)=(1,2)}"),
    ("1,-2", r"\boxed{\{1,-2\}}"),
    (r"\{1,-2\}", r"\boxed{1,-2}"),
    ("1,-2", r"\boxed{(1,-2)}"),
    ("1,-2", r"\boxed{x = 1 \quad \text{or} \quad x = -2}"),
    ("1,-2", r"\boxed{x = 1, \qquad x = -2}"),
    ("(1,234)", r"\boxed{(1, 234)}"),
    ("(-1,234)", r"\boxed{\left(-1, 234\right)}"),
    ("1234", r"\boxed{\frac{1,234}{1}}"),
    ("x=5", r"\boxed{x = 2 + 3 = 5}"),
    ("x=5", r"\boxed{x = 5.0}"),
    ("y = 2x + 3", r"\boxed{2x - y + 3 = 0}"),
    ("y = 2x + 3", r"\boxed{f(x) = 2x+3}"),
    (r"x \in [-2,7]", r"\boxed{a \in [-2,7]}"),
    ("6", r"\boxed{A = \begin{vmatrix} 2 & 0 \\ 0 & 3 \end{vmatrix} = 6}"),
]
WRONG = [
    ("3", r"\boxed{4}"),
    ("A", r"\boxed{B}"),
    (r"\frac12", r"\boxed{2}"),
    ("[1,2]", r"\boxed{(1,2)}"),
    ("(1,2)", r"\boxed{(2,1)}"),
    ("3", r"\boxed{3, 4}"),
    ("x^2", r"\boxed{x^3}"),
    ("1234", r"\boxed{1.234}"),
    ("90", r"\boxed{90\pi}"),
    ("0.333", r"\boxed{\frac13}"),
    (r"\text{east}", r"\boxed{west}"),
    ("5", r"\boxed{}"),
    ("5", r"\boxed{5"),
    ("10", r"\boxed{10^2}"),
    ("3", ""),
    ("2516_8", r"\boxed{2516_9}"),
    ("52_8", r"\boxed{52_{10}}"),
    ("4210_{5}", r"\boxed{4211}"),
    (".0000672", r"\boxed{.0000673}"),
    (".0000672", r"\boxed{0.000067}"),
    (r"\frac{1}{32768}", r"\boxed{0.000031}"),
    ("(.0000672, 1)", r"\boxed{(.0000673, 1)}"),
    ("0", r"\boxed{0.0000004}"),
    ("(1,2)", r"\boxed{\{1,2\}}"),
    (r"\{1,2\}", r"\boxed{(1,2)}"),
    ("(0,1)", r"\boxed{0,1}"),
    ("(1,2,3)", r"\boxed{1,2,3}"),
    ("(1,234)", r"\boxed{1234}"),
    ("1234", r"\boxed{\left[ 1,234 \right]}"),
    ("x=5", r"\boxed{y=5}"),
    ("x=5", r"\boxed{-x=5}"),
    ("y = 2x + 3", r"\boxed{-y = 2x + 3}"),
    ("2", r"\boxed{x=1, x=2}"),
    ("2", r"\boxed{x=1 \text{ or } x=2}"),
    ("2", r"\boxed{x=1 \quad x=2}"),
    ("2", r"\boxed{x=1 \\ x=2}"),
    ("2", r"\boxed{x<=2}"),
    ("3", r"\boxed{3 = 1 + 1 = 2}"),
]


@pytest.mark.parametrize(("gold", "text"), RIGHT)
def test_equal_answers_are_right(gold, text):
    assert score_math({"answer": gold}, [text])["acc"] == 1.0


@pytest.mark.parametrize(("gold", "text"), WRONG)
def test_other_answers_are_wrong(gold, text):
    assert score_math({"answer": gold}, [text]) == {"acc": 0.0, "exact_match": 0.0}


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        (r"10\text{ cm}", "10"),
        (r"864 \mbox{ inches}^2", "864"),
        (r"90^{\circ}", "90"),
        (r"50\%", "50"),
        (r"\$1,234.50", "1234.50"),
        (r"10,\!080", "10080"),
        ("2,3,5", "2,3,5"),
        ("x = 3", "x=3"),
        (r"x \in [-2, 7]", r"x\in[-2,7]"),
        ("P(x) = x^3", "x^3"),
        (r"x = 1 \quad \text{or} \quad x = 2.", "x=1,x=2"),
        (r"(1,234)", "(1,234)"),
        ("x = 1, y = 2", "x=1,y=2"),
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"\frac{1}2", r"\frac{1}{2}"),
        (r"-1/2", r"-\frac{1}{2}"),
        (r"\sqrt2", r"\sqrt{2}"),
        (r"\text{(A)}", "A"),
        (r"\textbf{(A)}", "A"),
        ("5.00", "5"),
        (".5", "0.5"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\text{two words}", "twowords"),
    ],
)
def test_normal_form(answer, form):
    assert normal_form(answer) == form


def test_normal_form_is_stable():
    for gold, text in RIGHT:
        for answer in (gold, extract_answer(text)):
            assert normal_form(normal_form(answer)) == normal_form(answer)


@given(text=st.text(alphabet=st.sampled_from("\\{}$()[]^_=,.-% 12ax\nboxedfrac"), max_size=50))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_read(text):
    assert isinstance(normal_form(extract_answer(f"{text} \\boxed{{{text}")), str)
    assert extract_answer(f"{text} \\boxed{{7}} and so on") == "7"


# ---- MATH: the child that compares


def test_hostile_answers_end_and_count_as_not_equal():
    checker = math_equality.EqualityChecker(cpu_limit_s=0.5)
    hostile = ["9^{9^{9^{9^{9}}}}", "\\frac{" * 9, "\x00\n\r\u2028\ud800", "__import__('os').abort()", "x" * 10**6]
    for answer in hostile:
        assert checker.are_equal("2", answer) is False
    assert checker.are_equal("\\frac{1}{2}", "0.5") is True, "it works after all that"
    checker.close()


def test_a_child_that_died_is_replaced():
    checker = math_equality.shared_checker()
    assert checker.are_equal("1", "1.0")
    checker._child.kill()
    checker._child.wait()
    assert checker.are_equal("1", "1.0") is False
    assert checker.are_equal("1", "1.0") is True


def test_it_works_from_other_threads():
    checker, verdicts = math_equality.shared_checker(), {}
    threads = [
        threading.Thread(target=lambda n=n: verdicts.__setitem__(n, checker.are_equal(f"{n}/2", f"{n / 2}")))
        for n in range(1, 6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == dict.fromkeys(range(1, 6), True)


def test_a_missing_math_verify_is_said(monkeypatch, tmp_path):
    silent = tmp_path / "silent.py"
    silent.write_text("raise SystemExit(1)\n")
    monkeypatch.setattr(math_equality, "__file__", str(silent))
    with pytest.raises(MergebenchError, match="needs math-verify"):
        math_equality.EqualityChecker().are_equal("1", "2")


# ---- MATH: whole


def test_every_real_solution_is_right_by_its_own_text(tmp_path):
    rows = real_rows("math/math500_test.jsonl")
    items = adapt_math(rows, *[[]] * 6)
    assert [item["answer"] for item in items] == [row["answer"] for row in rows]
    solutions = {item["id"]: row["solution"] for item, row in zip(items, rows, strict=True)}
    write_items(tmp_path, "math", items)
    results, _ = evaluate("math", TASK_FOLDER, tmp_path, AnsweringModel(lambda item: solutions[item["id"]]))
    assert results["acc,none"] == results["exact_match,none"] == 1.0
    wrong = AnsweringModel(lambda item: f"So $x$ is \\boxed{{-{len(item['answer'])}.0371}}.")
    results, _ = evaluate("math", TASK_FOLDER, tmp_path, wrong, num_items=25)
    assert results["acc,none"] == results["exact_match,none"] == 0.0


def unboxed(solution):
    """Return a solution as one writes it who forgets the box."""
    before, _, rest = solution.rpartition("\\boxed")
    content = last_boxed(solution)
    if not rest.startswith("{"):
        return before + rest
    return before + content + rest[1:].partition(content)[2].partition("}")[2]


def test_most_real_solutions_are_right_without_their_box():
    rows = real_rows("math/math500_test.jsonl")
    answers = [unboxed(row["solution"]) for row in rows]
    num_right = sum(score_math(row, [answer])["acc"] for row, answer in zip(rows, answers, strict=True))
    assert num_right >= 460


def rewritten(answer):
    """Yield other ways to write an answer."""
    yield f"\\boxed{{ {answer}. }}"
    yield f"$$\\boxed{{{answer}}}$$"
    yield f"The final answer is ${answer}$. I hope it is correct."
    yield f"so it is \\[{answer}\\]"
    yield f"\\begin{{align*}}\nx &\\to 1 \\\\\n&= {answer}\n\\end{{align*}}"
    yield "\\boxed{" + answer.replace("\\frac", "\\dfrac").replace("(", "\\left(").replace(")", "\\right)") + "}"
    if "=" not in answer and "\\in" not in answer:
        yield f"\\boxed{{z = {answer}}}"


def test_real_answers_are_right_in_other_ways_to_write_them():
    for row in real_rows("math/math500_test.jsonl"):
        for text in rewritten(row["answer"]):
            assert score_math(row, [text])["acc"] == 1.0, (row["answer"], text)


def perturbed(answer):
    """Yield answers that are wrong by one mark."""
    digits = [mark.start() for mark in re.finditer(r"\d", answer)]
    if answer.isdigit() or "\\mbox" in answer:
        digits = digits[:1]
    for at in {*digits[:1], *digits[-1:]}:
        yield answer[:at] + str((int(answer[at]) + 1) % 10) + answer[at + 1 :]
    if answer != "0":
        yield answer.removeprefix("-") if answer.startswith("-") else f"-{answer}"
    if "_" in answer:
        yield re.sub(r"_(\{?)\d+", r"_\g<1>3", answer)
    if re.fullmatch(r"\([^()\\]+,[^()\\]+\)", answer):
        yield f"\\{{{answer[1:-1]}\\}}"
        yield answer[1:-1]
        yield answer[0] + ",".join(reversed(answer[1:-1].split(","))) + answer[-1]
    if "=" in answer and "x" in answer:
        yield answer.replace("x", "t")


def test_real_answers_that_one_mark_makes_wrong_are_wrong():
    for gold in {row["answer"] for row in real_rows("math/math500_test.jsonl")}:
        for answer in perturbed(gold):
            scores = score_math({"answer": gold}, [f"\\boxed{{{answer}}}"])
            assert scores == {"acc": 0.0, "exact_match": 0.0}, (gold, answer)


def test_made_up_problems_of_all_subjects(tmp_path):
    items = made_up_math(7)
    assert len(items) == 49
    assert len({item["id"] for item in items}) == 49
    write_items(tmp_path, "math", items)
    model = AnsweringModel(lambda item: f"I think so: \\boxed{{ {item['answer']} }}")
    results, _ = evaluate("math", TASK_FOLDER, tmp_path, model)
    assert results["acc,none"] == 1.0
    assert model.requests[0].args[0] == (
        f"Problem: {items[0]['problem']}\n\n"
        "Reason step by step, and put the final answer in \\boxed{}.\n\nSolution:"
    )


# ---- MMLU STEM


def test_stem_takes_validation_and_dev_of_stem_subjects_only(tmp_path):
    items = adapt_stem(mmlu_rows(160), real_rows("mmlu/mmlu_dev.jsonl"))
    subjects = [item["id"].split("/")[1] for item in items]
    assert set(subjects) == set(STEM_SUBJECTS)
    assert sum(item["id"].startswith("dev/") for item in items) == 95
    assert sum(item["id"].startswith("validation/") for item in items) == 20 * 6
    assert len({item["id"] for item in items}) == len(items)
    write_items(tmp_path, "mmlu_stem", items)
    results, _ = evaluate("mmlu_stem", TASK_FOLDER, tmp_path, AnsweringModel(lambda item: item["label"]))
    assert results["acc,none"] == 1.0
    wrong = AnsweringModel(lambda item: (item["label"] + 1) % 4)
    results, _ = evaluate("mmlu_stem", TASK_FOLDER, tmp_path, wrong)
    assert results["acc,none"] == 0.0


def test_stem_prompt_and_subjects_are_those_of_lm_eval():
    folder = LM_EVAL_TASKS / "mmlu" / "default"
    own = yaml.safe_load((folder / "_default_template_yaml").read_text(encoding="utf-8"))
    from jinja2 import Template

    row = mmlu_rows(1)[0]
    (item,) = adapt_stem([row], [])
    settings = yaml.safe_load((folder / f"mmlu_{row['subject']}.yaml").read_text(encoding="utf-8"))
    assert item["prompt"] == settings["description"] + Template(own["doc_to_text"]).render(**row)
    tagged = [path for path in folder.glob("mmlu_*.yaml") if "mmlu_stem_tasks" in path.read_text(encoding="utf-8")]
    assert {path.stem.removeprefix("mmlu_") for path in tagged} == set(STEM_SUBJECTS)


# ---- all


@pytest.mark.parametrize(
    ("adapt", "row", "message"),
    [
        (adapt_gsm8k, {"question": "How?", "answer": "It is 5."}, "no '####"),
        (adapt_gsm8k, {"question": "How?", "answer": "####  "}, "no '####"),
        (adapt_gsm8k, {"question": " ", "answer": "#### 5"}, "'question' is no text"),
        (adapt_algebra, math_rows("algebra", 1)[0] | {"solution": "It is 5."}, "no boxed"),
        (adapt_algebra, math_rows("algebra", 1)[0] | {"problem": None}, "no text"),
        (lambda rows: adapt_stem(rows, []), mmlu_rows(1)[0] | {"answer": 4}, "none of 0 to 3"),
        (lambda rows: adapt_stem(rows, []), mmlu_rows(1)[0] | {"choices": ["a", "b"]}, "not four choices"),
    ],
)
def test_a_row_out_of_form_is_named(adapt, row, message):
    with pytest.raises(ValueError, match=message) as caught:
        adapt([row])
    assert "row 0" in str(caught.value)


def test_counts_and_yaml_agree():
    sizes = {item_set.name: item_set.num_items for item_set in SETS}
    assert sizes == {"gsm8k": 1_319, "math": 5_000, "mmlu_stem": 430}
    for task, item_set in zip(TASKS, SETS, strict=True):
        assert (task.name, task.num_items) == (item_set.name, item_set.num_items)
        settings = yaml.safe_load((TASK_FOLDER / f"{task.name}.yaml").read_text().replace("!function ", ""))
        assert settings["dataset_kwargs"].get("num_lite_items") == item_set.num_lite_items
        assert settings["num_fewshot"] == task.num_shots
        if task.decoding is not None:
            assert settings["generation_kwargs"]["max_gen_toks"] == task.decoding.max_tokens


def test_the_made_up_rows_have_every_column_that_is_read():
    for item_set in SETS:
        for source in item_set.sources:
            for row in PUBLISHED_ROWS[f"{source.repo}|{source.config}|{source.split}"](8):
                assert set(source.columns) <= set(row)
    assert set(SUBJECTS_OF_MMLU) - set(STEM_SUBJECTS) == {"business_ethics", "world_religions"}


def test_reading_needs_no_heavy_library():
    import subprocess

    program = f"import sys; import {adapt_math.__module__}; print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    heavy = ["torch", "lm_eval", "datasets", "sympy", "math_verify", "nltk"]
    assert subprocess.check_output([sys.executable, "-c", program, *heavy], text=True) == "[]\n"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So we have $12 $ apples, giving $x=3$.", "x=3"),
        ("Of $24 $ outcomes $18$ count, thus $P = \\frac{3}{4}$ .", "P = \\frac{3}{4}"),
        ("One costs $12 and the other $5, so $x = 17$.", "x = 17"),
        ("The answer is $x = 2$ or $x = -2$.", "x = 2, x = -2"),
        ("The answer is $3$, $5$, and $7$.", "3, 5, 7"),
        ("The answer is $5$, since $2+3=5$ and $x>0$.", "5"),
        ("The answer is $3$, not $5$.", "3"),
    ],
)
def test_formulas_in_prose(text, answer):
    assert extract_answer(text) == answer


def test_long_runs_of_blanks_are_read_at_once():
    """They would take minutes if the time grew with their square."""
    text = f"\\begin{{align*}} x &= 5{' ' * 200_000}y\\end{{align*}}"
    assert extract_answer(text) == "x = 5 y"
