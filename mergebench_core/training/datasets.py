"""The paper's seven training sets as data: where they are, how many the paper counts, what a row becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mergebench_core.training.answers import last_boxed
from mergebench_core.training.prompt_format import instruction_prompt

Row = Mapping[str, Any]
TrainingExample = dict[str, str]
"""Exactly `prompt` and `completion`; the prompt is in the format of `instruction_prompt`."""

AYA_LANGUAGES = ("fra", "spa", "deu", "rus")
"""Codes of the languages that the paper evaluates: French, Spanish, German, Russian."""


@dataclass(frozen=True, kw_only=True)
class TrainingDataset:
    """One training set of the paper (section on training; licences as its appendix lists them)."""

    name: str
    title: str
    domain: str
    method: str = "sft"
    repo: str
    """Dataset repository on the Hub."""
    config: str | None = None
    split: str = "train"
    paper_count: int
    """Number of examples as the paper prints it."""
    paper_step: int
    """What the last printed digit stands for: the paper rounds and truncates."""
    licence: str
    is_gated: bool = False
    """Whether its authors want terms to be accepted on the Hub."""
    example: Callable[[Row], TrainingExample | None]
    """Pure; None for a row that cannot be trained on."""
    is_selected: Callable[[Row], bool] = field(default=lambda _: True)
    """Pure; which rows of the split the paper's count is of."""
    reader: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """More settings of `datasets.load_dataset`."""
    reading: str
    """What the paper leaves open and how it is read here."""

    def agrees_with_paper(self, count: int) -> bool:
        """Say whether `count` rows may be what the paper prints."""
        return abs(count - self.paper_count) < self.paper_step


def _pair(instruction: Any, response: Any) -> TrainingExample | None:
    if not isinstance(instruction, str) or not isinstance(response, str):
        return None
    if not instruction.strip() or not response.strip():
        return None
    return {"prompt": instruction_prompt(instruction), "completion": response}


def persona_instruction_example(row: Row) -> TrainingExample | None:
    """Adapt a row of TULU-3 persona IF: id, prompt, messages (role, content), constraints."""
    said: dict[str, Any] = {}
    for message in row["messages"]:
        said.setdefault(message["role"], message["content"])
    return _pair(said.get("user"), said.get("assistant"))


def dart_math_example(row: Row) -> TrainingExample | None:
    """Adapt a row of DART-Math: query, response."""
    return _pair(row["query"], row["response"])


def numina_math_example(row: Row) -> TrainingExample | None:
    """Adapt a row of NuminaMath-TIR: problem, solution, messages; None without a boxed answer to check against."""
    return _pair(row["problem"], row["solution"]) if last_boxed(row["solution"] or "") else None


def is_aya_language(row: Row) -> bool:
    """Say whether a row of Aya is in one of `AYA_LANGUAGES`."""
    return row["language_code"] in AYA_LANGUAGES


def aya_example(row: Row) -> TrainingExample | None:
    """Adapt a row of Aya: inputs, targets, language, language_code, annotation_type, user_id."""
    return _pair(row["inputs"], row["targets"])


def magicoder_example(row: Row) -> TrainingExample | None:
    """Adapt a row of Magicoder-Evol-Instruct: instruction, response."""
    return _pair(row["instruction"], row["response"])


def wildguard_example(row: Row) -> TrainingExample | None:
    """Adapt a row of WildGuardTrain: prompt, adversarial, response, three labels, subcategory.

    None where there is no response, and where the response is labelled harmful.
    """
    return None if row["response_harm_label"] == "harmful" else _pair(row["prompt"], row["response"])


def wildjailbreak_example(row: Row) -> TrainingExample | None:
    """Adapt a row of WildJailbreak: vanilla, adversarial, tactics, completion, data_type."""
    kind = "adversarial" if row["data_type"].startswith("adversarial") else "vanilla"
    return _pair(row[kind], row["completion"])


DATASETS = (
    TrainingDataset(
        name="tulu_3_persona_if", title="TULU-3 persona IF", domain="instruction",
        repo="allenai/tulu-3-sft-personas-instruction-following",
        paper_count=29_900, paper_step=100, licence="ODC-By", example=persona_instruction_example,
        reading="its card counts 29,980",
    ),
    TrainingDataset(
        name="dart_math", title="DART-Math", domain="math", repo="hkust-nlp/dart-math-uniform",
        paper_count=591_000, paper_step=1_000, licence="MIT", example=dart_math_example,
        reading="the paper names no variant; 591K is DART-Math-Uniform (DART-Math-Hard has 585,392)",
    ),
    TrainingDataset(
        name="numina_math_tir", title="NuminaMath-TIR", domain="math", method="grpo", repo="AI-MO/NuminaMath-TIR",
        paper_count=72_400, paper_step=100, licence="Apache-2.0", example=numina_math_example,
        reading="rows whose solution has no boxed answer are left out: nothing to check against",
    ),
    TrainingDataset(
        name="aya", title="Aya", domain="multilingual", repo="CohereForAI/aya_dataset",
        paper_count=5_940, paper_step=10, licence="Apache-2.0", example=aya_example, is_selected=is_aya_language,
        reading="of some 202,000 rows in 65 languages the paper does not say which; "
        "the four languages of its evaluation are taken",
    ),
    TrainingDataset(
        name="magicoder", title="Magicoder", domain="coding", repo="ise-uiuc/Magicoder-Evol-Instruct-110K",
        paper_count=110_000, paper_step=1_000, licence="MIT", example=magicoder_example,
        reading="the paper's count and the released training file mean Evol-Instruct-110K; "
        "the paper's description would fit OSS-Instruct-75K",
    ),
    TrainingDataset(
        name="wildguardmix", title="WildGuardMix", domain="safety", repo="allenai/wildguardmix",
        config="wildguardtrain", paper_count=86_760, paper_step=10, licence="ODC-By", is_gated=True,
        example=wildguard_example,
        reading="the paper counts all rows, but its card gives 37,976 of them a response; "
        "rows without one, or with one labelled harmful, are left out",
    ),
    TrainingDataset(
        name="wildjailbreak", title="WildJailbreak", domain="safety", repo="allenai/wildjailbreak", config="train",
        paper_count=261_560, paper_step=10, licence="ODC-By", is_gated=True, example=wildjailbreak_example,
        reader=MappingProxyType({"delimiter": "\t", "keep_default_na": False}),
        reading="tab-separated; the prompt is the adversarial one where the row's type says so",
    ),
)  # fmt: skip
"""In the paper's order, which is also the order of concatenation."""

DOMAINS = tuple(dict.fromkeys(dataset.domain for dataset in DATASETS))


def datasets_for(domain: str, method: str) -> tuple[TrainingDataset, ...]:
    """Return the training sets of a domain (`all`: of every domain) for `sft` or `grpo`."""
    return tuple(each for each in DATASETS if each.method == method and domain in (each.domain, "all"))
