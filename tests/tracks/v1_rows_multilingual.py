"""Made-up rows in the published form of the multilingual sets, any number of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]

_QUESTIONS = {
    "fr": "Combien de pommes restent si l'on en prend {n} ?",
    "es": "¿Cuántas manzanas quedan si se toman {n}?",
    "de": "Wie viele Äpfel bleiben, wenn man {n} nimmt?",
    "ru": "Сколько яблок останется, если взять {n}?",
}
_ENDINGS = {
    "fr": ("Il coupe {n} planches.", "Il [substeps] range  tout.", "Elle part à {n} heures.", "Ils dansent."),
    "es": ("Corta {n} tablas.", "Lo [substeps] guarda  todo.", "Ella sale a las {n}.", "Bailan en el año {n}."),
    "de": ("Er sägt {n} Bretter.", "Er [substeps] räumt  auf.", "Sie geht um {n} Uhr.", "Sie tanzen im Mai."),
    "ru": ("Он пилит {n} досок.", "Он [substeps] всё  убирает.", "Она уходит в {n}.", "Они танцуют весь день."),
}
_CONTEXTS = {
    "fr": ("Menuiserie", "Un homme mesure une planche [title] avec soin.", "l'homme"),
    "es": ("Carpintería", "Un hombre mide una tabla [title] con cuidado.", "el hombre"),
    "de": ("Tischlern", "Ein Mann misst ein Brett [title] sorgfältig.", "der Mann"),
    "ru": ("Столярное дело", "Мужчина [title] измеряет доску.", "мужчина"),
}


def mmlu_rows(language: str, num_rows: int) -> Rows:
    """Return rows of alexandrainst/m_mmlu."""
    return [
        {
            "instruction": f" {_QUESTIONS[language].format(n=n)} ",
            **{f"option_{letter}": f"{n + shift}" for shift, letter in enumerate("abcd")},
            "answer": "ABCD"[n % 4],
            "id": f"elementary_mathematics/test/{n}",
        }
        for n in range(num_rows)
    ]


def arc_rows(language: str, num_rows: int) -> Rows:
    """Return rows of alexandrainst/m_arc: every 50th with three options, every 51st with five."""
    rows = []
    for n in range(num_rows):
        num_options = 3 if n % 50 == 1 else 5 if n % 51 == 2 else 4
        options = {letter: f"{letter * (shift + 2)} {n}" for shift, letter in enumerate("abcde"[:num_options])}
        rows.append(
            {
                "id": f"ARC-Challenge/test/Mercury_{n}",
                "instruction": _QUESTIONS[language].format(n=n),
                **{f"option_{letter}": options.get(letter) for letter in "abcde"},
                "answer": "ABCDE"[n % num_options],
            }
        )
    return rows


def hellaswag_rows(language: str, num_rows: int) -> Rows:
    """Return rows of alexandrainst/m_hellaswag."""
    label, first, second = _CONTEXTS[language]
    return [
        {
            "id": f"hellaswag/validation/{n}",
            "activity_label": label,
            "ctx_a": f"{first} ({n})",
            "ctx_b": second if n % 3 else "",
            "ctx": f"{first} ({n}) {second}",
            "endings": [ending.format(n=n) for ending in _ENDINGS[language]],
            "label": str(n % 4),
            "source_id": f"wikihow~{n}",
            "split": "val",
            "split_type": "indomain",
        }
        for n in range(num_rows)
    ]


def lambada_rows(num_rows: int) -> Rows:
    """Return rows of EleutherAI/lambada_openai."""
    words = ("harbour", "lantern", "don't", "signs")
    return [
        {"text": f'She asked about it {n} times.\n\n"Well," he said, "look for the {words[n % 4]}'}
        for n in range(num_rows)
    ]


def _published() -> dict[str, Callable[[int], Rows]]:
    tables: dict[str, Callable[[int], Rows]] = {"EleutherAI/lambada_openai|default|test": lambada_rows}
    for language in _QUESTIONS:
        tables[f"alexandrainst/m_mmlu|{language}|test"] = lambda n, code=language: mmlu_rows(code, n)
        tables[f"alexandrainst/m_arc|{language}|test"] = lambda n, code=language: arc_rows(code, n)
        tables[f"alexandrainst/m_hellaswag|{language}|val"] = lambda n, code=language: hellaswag_rows(code, n)
    return tables


PUBLISHED_ROWS = _published()
