"""A folder as the released MergeBench scripts write it, with made-up numbers, changed by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LANGUAGES = ("fr", "es", "de", "ru")
MODEL_PATH = "merged_models/gemma-2-2b-it_merged/TIES_K_0.3_scaling_coef_0.4"
Documents = dict[str, dict[str, Any]]


def documents() -> Documents:
    """Return the three files by name; scores are round numbers that can be checked by hand."""
    return {"lm_eval.json": _lm_eval(), "code_eval.json": _code_eval(), "safety_eval.json": _safety_eval()}


def write_folder(folder: Path, files: Documents | None = None) -> Path:
    """Write the files, by default all three, and return the folder."""
    folder.mkdir(exist_ok=True)
    for name, document in (documents() if files is None else files).items():
        (folder / name).write_text(json.dumps(document, indent=2), encoding="utf-8")
    return folder


def _entry(**metrics: float) -> dict[str, Any]:
    numbers = {f"{name},none": value for name, value in metrics.items()}
    errors = {f"{name}_stderr,none": "N/A" for name in metrics}
    return {"alias": "a task", **numbers, **errors}


def _lm_eval() -> dict[str, Any]:
    results: dict[str, Any] = {
        "ifeval": _entry(
            prompt_level_strict_acc=0.25, inst_level_strict_acc=0.3,
            prompt_level_loose_acc=0.35, inst_level_loose_acc=0.4,
        ),
        "gsm8k_cot": {"alias": "x", "exact_match,strict-match": 0.5, "exact_match,flexible-extract": 0.625},
        "hendrycks_math": _entry(exact_match=0.125),
        "hendrycks_math_algebra": _entry(exact_match=0.1),
        "hendrycks_math_geometry": _entry(exact_match=0.15),
    }  # fmt: skip
    for place, language in enumerate(LANGUAGES):
        results[f"m_mmlu_{language}"] = _entry(acc=0.25 + 0.125 * place)
        results[f"arc_{language}"] = _entry(acc=0.1, acc_norm=0.5)
        results[f"hellaswag_{language}"] = _entry(acc=0.2, acc_norm=0.75)
    counts = {name: {"original": 100, "effective": 100} for name in results if name != "hendrycks_math"}
    return {
        "results": results,
        "groups": {"hendrycks_math": results["hendrycks_math"]},
        "higher_is_better": {"ifeval": {"prompt_level_strict_acc": True}},
        "n-samples": counts,
        "config": {"model": "vllm", "model_args": f"pretrained={MODEL_PATH},dtype=auto", "limit": None},
        "pretty_env_info": "PyTorch version: 2.8.0+cu128\nPython version: 3.10.9 (main)\n",
        "transformers_version": "4.57.1",
        "lm_eval_version": "0.4.9.1",
        "model_source": "vllm",
        "model_name": MODEL_PATH,
        "chat_template": None,
        "chat_template_sha": None,
    }


def _code_eval() -> dict[str, Any]:
    config = {"model": MODEL_PATH, "temperature": 0.2, "top_p": 0.95, "n_samples": 10, "precision": "bf16"}
    return {
        "humanevalplus": {"pass@1": 0.25, "pass@10": 0.5},
        "mbppplus": {"pass@1": 0.375, "pass@10": 0.625},
        "config": {**config, "limit": None},
    }


def _safety_eval() -> dict[str, Any]:
    return {
        "wildguardtest": {
            "micro harm (lower)": 0.25,
            "prompt_type harm (lower)": {"cyberattack": 0.5, "others": 0.1},
            "adversarial harm (lower)": 0.3,
            "vanilla harm (lower)": 0.2,
        },
        "harmbench": {
            "micro ASR (lower)": 0.375,
            "FunctionalCategory ASR (lower)": {"standard": 0.4},
            "SemanticCategory ASR (lower)": {"illegal": 0.5},
        },
        "xstest": {
            "inverted_rta_all_safe": 0.9,
            "inverted_rta_all_contrast": 0.2,
            "refusal_prf": {"precision": 0.8, "recall": 0.7, "f1": 0.75},
            "overall_accuracy": 0.875,
        },
        "do_anything_now": {"macro ASR": 0.125, "jailbreak_chat ASR": 0.1, "AI Prompt Sharing ASR": 0.0},
    }
