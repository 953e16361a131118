"""The eight base models and their forty specialists.

Source: arXiv:2505.10833, section 3, and its released code (names of the repositories).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergebench_core.errors import unknown_name
from mergebench_core.tracks.track import HubBase, HubModel

DOMAINS = ("instruction", "math", "multilingual", "coding", "safety")
LLAMA_3_2 = "Llama 3.2 Community License"
LLAMA_3_1 = "Llama 3.1 Community License"
GEMMA = "Gemma Terms of Use"


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a base and its instruction-tuned form share."""

    name: str
    licence: str
    num_parameters: int
    size: str
    """As in the model's name."""


LLAMA_3B = Family(
    name="llama",
    licence=LLAMA_3_2,
    num_parameters=3_212_749_824,
    size="3B",
)
LLAMA_8B = Family(
    name="llama",
    licence=LLAMA_3_1,
    num_parameters=8_030_261_248,
    size="8B",
)
GEMMA_2B = Family(name="gemma2", licence=GEMMA, num_parameters=2_614_341_888, size="2B")
GEMMA_9B = Family(name="gemma2", licence=GEMMA, num_parameters=9_241_705_984, size="9B")

IN_FLOAT32 = ("google/gemma-2-2b", "google/gemma-2-9b")
"""Bases whose weights are published in float32; all others and all specialists are in bfloat16."""

# repository of the base, family, whether it is instruction-tuned
MODELS = (
    ("meta-llama/Llama-3.2-3B", LLAMA_3B, False),
    ("meta-llama/Llama-3.2-3B-Instruct", LLAMA_3B, True),
    ("meta-llama/Llama-3.1-8B", LLAMA_8B, False),
    ("meta-llama/Llama-3.1-8B-Instruct", LLAMA_8B, True),
    ("google/gemma-2-2b", GEMMA_2B, False),
    ("google/gemma-2-2b-it", GEMMA_2B, True),
    ("google/gemma-2-9b", GEMMA_9B, False),
    ("google/gemma-2-9b-it", GEMMA_9B, True),
)


def bases(revisions: Mapping[str, str]) -> dict[str, HubBase]:
    """Return the bases by name, at the commits that `revisions` pins by repository."""
    found = [_base(repo, family, is_instruct, revisions) for repo, family, is_instruct in MODELS]
    return {base.name: base for base in found}


def find_base(name: str) -> HubBase:
    """Return the base called `name`, unpinned.

    Raises:
        InputError: there is none.
    """
    known = bases({})
    if name not in known:
        raise unknown_name("base", name, known, "`mergebench models --track mergebench-v1` lists them.")
    return known[name]


def _base(repo: str, family: Family, is_instruct: bool, revisions: Mapping[str, str]) -> HubBase:
    title = repo.split("/")[1]

    def model(where: str, *, is_gated: bool) -> HubModel:
        return HubModel(
            repo=where,
            licence=family.licence,
            is_gated=is_gated,
            num_parameters=family.num_parameters,
            bytes_per_parameter=4 if where in IN_FLOAT32 else 2,
            revision=revisions.get(where),
        )

    specialists = {
        f"specialist:{domain}": model(f"MergeBench/{title}_{domain}", is_gated=False) for domain in DOMAINS
    }
    return HubBase(
        name=title.lower(),
        title=title,
        family=family.name,
        size=family.size,
        is_instruct=is_instruct,
        prompt_format="chat" if is_instruct else "instruction",
        hub_models={"base": model(repo, is_gated=True), **specialists},
    )
