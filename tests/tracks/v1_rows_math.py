"""Made-up rows in the published form of GSM8K, MATH and MMLU, any number of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]

_TITLES = {
    "algebra": "Algebra",
    "counting_and_probability": "Counting & Probability",
    "geometry": "Geometry",
    "intermediate_algebra": "Intermediate Algebra",
    "number_theory": "Number Theory",
    "prealgebra": "Prealgebra",
    "precalculus": "Precalculus",
}
_BOXES = (
    r"$\boxed{{{n}}}$.",
    r"\[x = \boxed{{\frac{{{n}}}{{7}}}}.\]",
    r"$\boxed{{\left[ -{n}, \infty \right)}}$",
    r"$\boxed{{{n}^\circ}}$ and no more.",
    r"$\boxed{{\begin{{pmatrix}} {n} \\ 1 \end{{pmatrix}}}}$",
    r"so the least is \fbox{{{n}\text{{ cm}}}}",
    r"$\boxed{{\text{{(B)}}}}$",
)
SUBJECTS_OF_MMLU = (
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "business_ethics",
    "college_chemistry",
    "high_school_physics",
    "machine_learning",
    "world_religions",
)


def gsm8k_rows(num_rows: int) -> Rows:
    """Return rows of openai/gsm8k, config main."""
    return [
        {
            "question": f"Mara has {n + 2} baskets with 1,000 apples each. She sells {n}. How many are left?",
            "answer": (
                f"She has {n + 2}*1000=<<{n + 2}*1000={(n + 2) * 1000}>>{(n + 2) * 1000} apples.\n"
                f"{(n + 2) * 1000}-{n}={(n + 2) * 1000 - n} are left.\n#### {(n + 2) * 1000 - n:,}"
            ),
        }
        for n in range(num_rows)
    ]


def math_rows(subject: str, num_rows: int) -> Rows:
    """Return rows of EleutherAI/hendrycks_math, one configuration."""
    return [
        {
            "problem": f"What is the ${n + 1}$-th value of $f(x) = \\frac{{x}}{{7}}$?",
            "level": f"Level {n % 5 + 1}",
            "type": _TITLES[subject],
            "solution": "First \\boxed{wrong} was tried. We find " + _BOXES[n % len(_BOXES)].format(n=n + 1),
        }
        for n in range(num_rows)
    ]


def mmlu_rows(num_rows: int) -> Rows:
    """Return rows of cais/mmlu, config all: subjects in alphabetical order."""
    rows = []
    for n in range(num_rows):
        subject = SUBJECTS_OF_MMLU[n * len(SUBJECTS_OF_MMLU) // num_rows]
        choices = [f"{n} J", f"{n + 1} J", "None of these", "A, B and C"]
        rows.append({"question": f"What is {n} of it?\n", "subject": subject, "choices": choices, "answer": n % 4})
    return rows


PUBLISHED_ROWS: dict[str, Callable[[int], Rows]] = {
    "openai/gsm8k|main|test": gsm8k_rows,
    **{
        f"EleutherAI/hendrycks_math|{subject}|test": lambda n, name=subject: math_rows(name, n)
        for subject in _TITLES
    },
    "cais/mmlu|all|validation": mmlu_rows,
    "cais/mmlu|all|dev": mmlu_rows,
}
