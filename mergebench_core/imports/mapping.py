"""Which keys of the released scripts' output are which task here, and in which direction they count.

Keys as in the published results of RegMean++ (repository uiuctml/MergeBench at commit b245648): lm_eval.json by
lm-eval, code_eval.json by bigcode-evaluation-harness, safety_eval.json by a fork of safety-eval. General tasks are
not run by the released scripts, and the metrics behind the paper's table were never published: no key is taken for
one of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass

LM_EVAL, CODE_EVAL, SAFETY_EVAL = "lm_eval.json", "code_eval.json", "safety_eval.json"
FILES = (LM_EVAL, CODE_EVAL, SAFETY_EVAL)

BASES = (
    "llama-3.2-3b",
    "llama-3.2-3b-instruct",
    "llama-3.1-8b",
    "llama-3.1-8b-instruct",
    "gemma-2-2b",
    "gemma-2-2b-it",
    "gemma-2-9b",
    "gemma-2-9b-it",
)
"""The paper's base models; their repositories have the same names but for capitals."""

GENERAL_TASKS = ("mmlu", "triviaqa", "squadv2", "coqa", "pubmedqa", "wmt14_fr_en")

ALGORITHMS = {
    "Consensus": "consensus_ta",
    "DARE": "dare",
    "Fisher": "fisher",
    "RegMean_task_names": "regmean",
    "RegMeanPlusPlus": "regmean_plus_plus",
    "TIES": "ties",
}
"""Our method by the start of the folder's name. TaskArithmetic also stands for Model Soup, LocalizeAndStitch for
both versions, and the released merge.sh merges with RegMean where it says DARE: these are not told apart here."""


@dataclass(frozen=True, kw_only=True)
class ReleasedTask:
    """One task here and where its score stands in the released output."""

    task: str
    domain: str
    file: str
    names: tuple[str, ...]
    """Its names there; several are parts of one task, whose unweighted mean is the score."""
    metric: str
    """Key of the score."""
    is_lower_better: bool = False
    """The key counts harm or successful attacks: the score is 1 - value."""
    refusal_key: str | None = None
    """Key of 1 - refusal rate, which is taken instead of `metric` where it is there."""
    other_keys: str = r"(?!)"
    """Pattern of further keys that belong to it; a `/` stands between the levels of nested ones."""
    subtasks: str = r"(?!)"
    """Pattern of names of parts that `names` already sums up."""
    note: str | None = None

    def has_name(self, name: str) -> bool:
        """Whether results under `name` belong to this task."""
        return name in self.names or re.fullmatch(self.subtasks, name) is not None

    def has_key(self, key: str) -> bool:
        """Whether a number under `key` belongs to this task."""
        return key in (self.metric, self.refusal_key) or re.fullmatch(self.other_keys, key) is not None


def _languages(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}_{language}" for language in ("fr", "es", "de", "ru"))


HARM_NOTE = "score is 1 - harm rate"
ATTACK_NOTE = "score is 1 - attack success rate"
REFUSAL_KEY = "inverted_rta"

RELEASED_TASKS = (
    ReleasedTask(
        task="ifeval", domain="instruction", file=LM_EVAL, names=("ifeval",),
        metric="prompt_level_strict_acc,none", other_keys=r"(prompt|inst)_level_(strict|loose)_acc,none",
    ),
    ReleasedTask(
        task="gsm8k", domain="math", file=LM_EVAL, names=("gsm8k_cot",), metric="exact_match,flexible-extract",
        other_keys="exact_match,strict-match",
    ),
    ReleasedTask(
        task="math", domain="math", file=LM_EVAL, names=("hendrycks_math",), metric="exact_match,none",
        subtasks=r"hendrycks_math_\w+", note="extraction differs: a low score may be the parser's doing",
    ),
    ReleasedTask(
        task="m_mmlu", domain="multilingual", file=LM_EVAL, names=_languages("m_mmlu"), metric="acc,none",
    ),
    ReleasedTask(
        task="m_arc", domain="multilingual", file=LM_EVAL, names=_languages("arc"), metric="acc_norm,none",
        other_keys="acc,none",
    ),
    ReleasedTask(
        task="m_hellaswag", domain="multilingual", file=LM_EVAL, names=_languages("hellaswag"),
        metric="acc_norm,none", other_keys="acc,none",
    ),
    ReleasedTask(
        task="humaneval_plus", domain="coding", file=CODE_EVAL, names=("humanevalplus",), metric="pass@1",
        other_keys=r"pass@\d+",
    ),
    ReleasedTask(
        task="mbpp_plus", domain="coding", file=CODE_EVAL, names=("mbppplus",), metric="pass@1",
        other_keys=r"pass@\d+",
    ),
    ReleasedTask(
        task="wildguardtest", domain="safety", file=SAFETY_EVAL, names=("wildguardtest",),
        metric="micro harm (lower)", is_lower_better=True, refusal_key=REFUSAL_KEY, note=HARM_NOTE,
        other_keys=r"(adversarial|vanilla) harm \(lower\)|prompt_type harm \(lower\)/.+",
    ),
    ReleasedTask(
        task="harmbench", domain="safety", file=SAFETY_EVAL, names=("harmbench",), metric="micro ASR (lower)",
        is_lower_better=True, refusal_key=REFUSAL_KEY, note=ATTACK_NOTE,
        other_keys=r"(Functional|Semantic)Category ASR \(lower\)/.+",
    ),
    ReleasedTask(
        task="do_anything_now", domain="safety", file=SAFETY_EVAL, names=("do_anything_now",), metric="macro ASR",
        is_lower_better=True, refusal_key=REFUSAL_KEY, note=ATTACK_NOTE, other_keys=r"[^/]+ ASR",
    ),
    ReleasedTask(
        task="xstest", domain="safety", file=SAFETY_EVAL, names=("xstest",), metric="overall_accuracy",
        other_keys=r"inverted_rta_\w+|refusal_prf/(precision|recall|f1)",
    ),
)  # fmt: skip


def mapping_sha256() -> str:
    """Return the digest of the table: another table makes other scores of the same files."""
    text = json.dumps([[dataclasses.asdict(task) for task in RELEASED_TASKS], GENERAL_TASKS], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def tasks_by_domain() -> dict[str, tuple[str, ...]]:
    """Return the names of the test tasks by domain: what a complete import has."""
    domains = dict.fromkeys(task.domain for task in RELEASED_TASKS)
    return {domain: tuple(task.task for task in RELEASED_TASKS if task.domain == domain) for domain in domains}
