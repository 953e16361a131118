"""Measures a track folder against its criteria and prints the tables as markdown.

    python benchmarks/mini_track.py [FOLDER] [--cache scores.json]

Merging is repeated here in a few lines (fp32, embeddings and head from the base), apart from the methods.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mergebench_core.tracks.mini_v1 import load

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
DOMAINS = ("instruction", "math", "multilingual", "coding", "safety")
TEST = {
    "instruction": ["mini_instruction"],
    "math": ["mini_math"],
    "multilingual": ["mini_multilingual"],
    "coding": ["mini_coding_write", "mini_coding_complete"],
    "safety": ["mini_safety_harm", "mini_safety_contrast"],
}
SURROGATE = {domain: [f"mini_{domain}_surrogate"] for domain in DOMAINS}
GENERAL = [f"mini_general_{name}" for name in ("fact", "cloze", "dict", "arith", "know", "read")]
CHANCE = {task.name: task.chance for task in load().tasks}
MODELS = ("base", *DOMAINS, "multitask")
CONFIGURATIONS = {
    "soup": ("soup", 1.0, 1.0),
    **{f"TA {i / 10}": ("ta", 1.0, i / 10) for i in range(1, 11)},
    **{f"TIES {density} {i / 5}": ("ties", density, i / 5) for density in (0.2, 0.5, 0.9) for i in range(1, 11)},
}
"""Method, density and coefficient by label: the search spaces of the bundled methods."""
COARSE = [f"TA {i / 10}" for i in (1, 3, 4, 5, 6, 8, 10)] + [
    f"TIES {density} {i / 5}" for density in (0.2, 0.5, 0.9) for i in (3, 5, 7, 9)
]
Scores = dict[str, float]


@dataclass
class Family:
    """One base with what its merges need, and an evaluator on the same resident model."""

    home: Path
    tasks: dict[str, Any]
    base: dict[str, Any] = field(default_factory=dict)
    task_vectors: list[dict[str, Any]] = field(default_factory=list)
    lm: Any = None

    def open(self) -> None:
        """Load the resident model and the task vectors."""
        import torch
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(self.home / "base")
        tokenizer = AutoTokenizer.from_pretrained(self.home / "base", padding_side="left")
        self.lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=100, max_length=256)
        self.base = self.weights("base")
        merged = [name for name in self.base if "embed_tokens" not in name and "lm_head" not in name]
        for domain in DOMAINS:
            weights = self.weights(domain)
            self.task_vectors.append({name: weights[name] - self.base[name] for name in merged})
        assert all(torch.isfinite(tensor).all() for tensor in self.base.values())

    def weights(self, name: str) -> dict[str, Any]:
        """Return the tensors of a model of this family by name."""
        from safetensors.torch import load_file

        return load_file(self.home / name / "model.safetensors")

    def score(self, weights: dict[str, Any], names: list[str]) -> Scores:
        """Return the mean of every task with `weights` in the resident model."""
        from lm_eval import evaluator

        self.lm.model.load_state_dict(weights, strict=False)
        chosen = {name: self.tasks[name] for name in names}
        result = evaluator.evaluate(lm=self.lm, task_dict=chosen, bootstrap_iters=0, log_samples=True)
        means = {}
        for name in names:
            rows = [float(row["acc"]) for row in result["samples"][name]]
            means[name] = sum(rows) / len(rows)
        return means

    def merge(self, method: str, density: float, coefficient: float) -> dict[str, Any]:
        """Return the weights of a merge."""
        if method == "ties":
            update = ties_update(self.task_vectors, density)
        else:
            update = {name: sum(vector[name] for vector in self.task_vectors) for name in self.task_vectors[0]}
        factor = 1 / len(self.task_vectors) if method == "soup" else coefficient
        return {
            name: tensor + factor * update[name] if name in update else tensor
            for name, tensor in self.base.items()
        }


def ties_update(task_vectors: list[dict[str, Any]], density: float) -> dict[str, Any]:
    """Return TIES's merged task vector (trim over all tensors together, elect signs, disjoint mean)."""
    import torch

    trimmed = []
    for vector in task_vectors:
        magnitudes = torch.cat([tensor.abs().flatten() for tensor in vector.values()])
        kept = max(1, round(density * magnitudes.numel()))
        threshold = magnitudes.kthvalue(magnitudes.numel() - kept + 1).values
        trimmed.append({name: tensor * (tensor.abs() >= threshold) for name, tensor in vector.items()})
    update = {}
    for name in trimmed[0]:
        stack = torch.stack([vector[name] for vector in trimmed])
        agrees = (stack.sign() == stack.sum(0).sign()) & (stack != 0)
        update[name] = (stack * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    return update


def load_tasks(folder: Path) -> dict[str, Any]:
    """Return lm-eval's tasks of a track folder by name."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
    return manager.load(sorted(manager.all_tasks))["tasks"]


def domain_scores(scores: Scores, suite: dict[str, list[str]]) -> dict[str, float]:
    """Return the mean over the tasks of each domain."""
    return {domain: sum(scores[n] for n in names) / len(names) for domain, names in suite.items()}


def measure(folder: Path, name: str, tasks: dict[str, Any], labels: list[str]) -> dict[str, Scores]:
    """Return the scores of all models and merges of one family."""
    family = Family(home=folder / "models" / name, tasks=tasks)
    family.open()
    suites = [task for suite in (TEST, SURROGATE) for names in suite.values() for task in names]
    scores = {model: family.score(family.weights(model), [*suites, *GENERAL]) for model in MODELS}
    for label in labels:
        sys.stderr.write(f"{name}: {label}\n")
        scores[label] = family.score(family.merge(*CONFIGURATIONS[label]), [*suites, *GENERAL])
    return scores


def normalized(scores: dict[str, Scores], label: str, suite: dict[str, list[str]]) -> float:
    """Return the mean over domains of merged / specialist, in percent."""
    merged = domain_scores(scores[label], suite)
    own = {domain: domain_scores(scores[domain], suite)[domain] for domain in DOMAINS}
    return 100 * sum(merged[domain] / own[domain] for domain in DOMAINS) / len(DOMAINS)


def general_mean(scores: Scores) -> float:
    """Return the mean of the generalization tasks in percent."""
    return 100 * sum(scores[name] for name in GENERAL) / len(GENERAL)


def _row(cells: list[object]) -> str:
    return "| " + " | ".join(f"{c:.0f}" if isinstance(c, float) else str(c) for c in cells) + " |"


def _head(cells: list[str]) -> list[str]:
    return [_row(list(cells)), "|" + "---|" * len(cells)]


def model_table(scores: dict[str, Scores]) -> list[str]:
    """Return the table of all models: test, surrogate in brackets, general mean."""
    lines = _head(["model", *DOMAINS, "general"])
    for model in MODELS:
        test, surrogate = domain_scores(scores[model], TEST), domain_scores(scores[model], SURROGATE)
        cells = [f"{100 * test[d]:.0f} ({100 * surrogate[d]:.0f})" for d in DOMAINS]
        lines.append(_row([model, *cells, general_mean(scores[model])]))
    return lines


def general_table(scores: dict[str, Scores]) -> list[str]:
    """Return the generalization tasks of all models."""
    lines = _head(["model", *(name.removeprefix("mini_general_") for name in GENERAL)])
    labels = [*MODELS, "soup", "TA 0.4"]
    return lines + [_row([label, *(100 * scores[label][name] for name in GENERAL)]) for label in labels]


def merge_table(scores: dict[str, Scores]) -> list[str]:
    """Return the merges: normalized test and surrogate performance, general mean, domains."""
    lines = _head(["merge", "N test", "N surrogate", "general", *DOMAINS])
    for label in ["base", "multitask", *(name for name in CONFIGURATIONS if name in scores)]:
        test = domain_scores(scores[label], TEST)
        first = [f"{normalized(scores, label, suite):.1f}" for suite in (TEST, SURROGATE)]
        cells = [100 * test[domain] for domain in DOMAINS]
        lines.append(_row([label, *first, general_mean(scores[label]), *cells]))
    return lines


def ranks(values: list[float]) -> list[float]:
    """Return mean ranks from 1."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def spearman(left: list[float], right: list[float]) -> float:
    """Return Spearman's rank correlation."""
    a, b = ranks(left), ranks(right)
    mean = (len(a) + 1) / 2
    covariance = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    variances = sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b)
    return float(covariance / variances**0.5)


def criteria(scores: dict[str, Scores]) -> list[str]:
    """Return one line per criterion with its measured value."""
    base = domain_scores(scores["base"], TEST)
    own = {domain: domain_scores(scores[domain], TEST)[domain] for domain in DOMAINS}
    gains = {domain: own[domain] - base[domain] for domain in DOMAINS}
    test = {label: normalized(scores, label, TEST) for label in CONFIGURATIONS if label in scores}
    surrogate = {label: normalized(scores, label, SURROGATE) for label in CONFIGURATIONS if label in scores}
    ta = {i: test[f"TA {i / 10}"] for i in range(1, 11) if f"TA {i / 10}" in test}
    best = max(ta, key=lambda i: ta[i])
    above = sum(value > 97 for value in test.values())
    general = {model: general_mean(scores[model]) for model in MODELS}
    lost = {domain: general["base"] - general[domain] for domain in DOMAINS}
    lead = min(scores["base"][name] - CHANCE[name] for name in GENERAL)
    rho = spearman(list(test.values()), list(surrogate.values()))
    rows: list[tuple[str, str, bool]] = [
        ("smallest gain in the own domain >= 25", f"{100 * min(gains.values()):.1f}", min(gains.values()) >= 0.25),
        (
            "specialists at 80 or more >= 4",
            str(sum(v >= 0.8 for v in own.values())),
            sum(v >= 0.8 for v in own.values()) >= 4,
        ),
        ("soup, normalized, 40..85", f"{test['soup']:.1f}", 40 <= test["soup"] <= 85),
        ("configurations above 97 <= a quarter", f"{above} of {len(test)}", above <= len(test) / 4),
        ("optimum of task arithmetic inside 0.1..1.0", f"{best / 10} ({ta[best]:.1f})", 1 < best < 10),
        ("surrogate and test correlate (Spearman)", f"{rho:.3f}", rho > 0.7),
        ("smallest lead of the base over chance in a general task >= 25", f"{100 * lead:.0f}", lead >= 0.25),
        (
            "general points lost by specialists",
            f"{min(lost.values()):.1f} to {max(lost.values()):.1f}",
            max(lost.values()) > 5,
        ),
    ]
    lines = _head(["criterion", "measured", "met"])
    return lines + [_row([name, value, "yes" if met else "**no**"]) for name, value, met in rows]


def main() -> None:
    """Print the tables of a track folder."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    package = Path(__file__).parents[1] / "mergebench_core" / "tracks" / "mini_v1"
    parser.add_argument("folder", type=Path, nargs="?", default=package)
    parser.add_argument("--bases", nargs="*", default=["mini-llama", "mini-gemma"])
    parser.add_argument("--cache", type=Path, help="keep scores in this file")
    parser.add_argument("--coarse", action="store_true", help="20 merges instead of 41")
    options = parser.parse_args()
    labels = ["soup", *COARSE] if options.coarse else list(CONFIGURATIONS)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    known = json.loads(options.cache.read_text()) if options.cache and options.cache.exists() else {}
    tasks = load_tasks(options.folder)
    for name in options.bases:
        scores = known.get(name) or measure(options.folder, name, tasks, labels)
        known[name] = scores
        if options.cache:
            options.cache.write_text(json.dumps(known))
        tables = (model_table, general_table, merge_table, criteria)
        print(f"## {name}\n\n" + "\n\n".join("\n".join(table(scores)) for table in tables) + "\n")


if __name__ == "__main__":
    main()
