"""What a merged model says of itself: a model card for people, a recipe for machines."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mergebench_core.checkpoints.policy import MergePlan
from mergebench_core.home import write_atomic
from mergebench_core.merging.findings import Finding
from mergebench_core.merging.recipe import RECIPE_NAME, RECIPE_SCHEMA_VERSION, Recipe
from mergebench_core.tuning import config_text

BESIDE = (
    "generation_config.json", "config.json", "tokenizer*", "*.model", "vocab*", "merges.txt", "*.tiktoken",
    "special_tokens_map.json", "added_tokens.json", "chat_template*", "preprocessor_config.json",
    "processor_config.json", "*.py", "LICENSE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
"""Files of the base that the merged model needs or must carry."""


def recipe_document(
    recipe: Recipe,
    plan: MergePlan,
    findings: Sequence[Finding],
    *,
    weights_sha256: str,
    digests: Mapping[str, str],
    command: Sequence[str],
    num_samples: Mapping[str, int],
) -> dict[str, Any]:
    """Return the recipe as JSON values, complete enough to make the model again."""
    description = recipe.method.description
    return {
        "schema_version": RECIPE_SCHEMA_VERSION,
        "key": recipe.key(digests),
        "files_key": recipe.files_key(),
        "mergebench_version": version("mergebench"),
        "method": {
            "name": description.name,
            "title": description.title,
            "paper_url": description.paper_url,
            "version": description.version,
            "plugin": description.plugin,
            "source_sha256": recipe.method.source_sha256,
            "determinism": description.determinism,
        },
        **{name: value for name, value in recipe.identity().items() if not name.startswith("method")},
        "models": {
            label: {
                "model": model.name,
                "given": model.given,
                "revision": model.commit,
                "weights_sha256": digests[label],
            }
            for label, model in recipe.models.items()
        },
        "calibration_samples": dict(num_samples),
        "weights_sha256": weights_sha256,
        "left_out": [entry.name for entry in plan.left_out],
        "warnings": [found.text for found in findings if found.kind == "warning"],
        "notes": [found.text for found in findings if found.kind == "note"],
        "command": shlex.join(command),
    }


def write_beside(folder: Path, base: Path, document: Mapping[str, Any]) -> None:
    """Write the base's other files, the card and the recipe; the recipe comes last and says that all is there."""
    for pattern in BESIDE:
        for file in base.glob(pattern):
            if file.is_file() and not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)
    write_atomic(folder / "README.md", render_card(document))
    write_atomic(folder / RECIPE_NAME, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def render_card(document: Mapping[str, Any]) -> str:
    """Return the model card of a recipe: YAML front matter, then Markdown."""
    method, models = document["method"], document["models"]
    base = models["base"]
    specialists = [label.partition(":")[2] for label in models if label != "base"]
    names = dict.fromkeys(model["model"] for model in models.values())
    paper = f"[{method['title']}]({method['paper_url']})" if method["paper_url"] else method["title"]
    lines = [
        "---",
        "base_model:",
        *(f"- {json.dumps(name, ensure_ascii=False)}" for name in names),
        "base_model_relation: merge",
        "library_name: transformers",
        "tags:",
        "- merge",
        "- mergebench",
        "---",
        "",
        f"# {base['model']} merged with {method['title']}",
        "",
        f"Fine-tuned models of `{base['model']}` ({', '.join(specialists)}) merged by {paper} with mergebench "
        f"{document['mergebench_version']}. Nothing was trained and nothing was evaluated.",
        "",
        "| role | model | revision | sha256 of the weights |",
        "|---|---|---|---|",
        *(
            f"| {label} | {_cell(model['model'])} | {model['revision'] or '-'} | `{model['weights_sha256']}` |"
            for label, model in models.items()
        ),
        "",
        "## Recipe",
        "",
        *_recipe_lines(document),
        *_section("Warnings", document["warnings"]),
        *_section("Notes", document["notes"]),
        "",
        "## Again",
        "",
        "```",
        document["command"],
        "```",
        "",
        f"`{RECIPE_NAME}` holds the same for machines.",
    ]
    return "\n".join(lines) + "\n"


def _recipe_lines(document: Mapping[str, Any]) -> list[str]:
    method, left_out = document["method"], document["left_out"]
    shown = ", ".join(f"`{name}`" for name in left_out[:6]) + (
        f" and {len(left_out) - 6} more" if len(left_out) > 6 else ""
    )
    return [
        f"- method: `{method['name']}` version {method['version']} ({method['plugin']}; {method['determinism']})",
        f"- configuration: {config_text(document['configuration']) or 'the method has none'}",
        f"- seed: {document['seed']}",
        f"- sha256 of the merged weights: `{document['weights_sha256']}`",
        f"- tensors that are the base's own: {shown or 'none'}",
        *(
            [f"- calibration samples read: {config_text(document['calibration_samples'])}"]
            if document["calibration_samples"]
            else []
        ),
    ]


def _section(title: str, texts: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {text}" for text in texts)] if texts else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
