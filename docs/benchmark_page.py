"""docs/benchmark.md: everything that the track mergebench-v1 fixes, in tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]
INTRODUCTION = """\
# The benchmark: track mergebench-v1

What MergeBench ([arXiv:2505.10833](https://arxiv.org/abs/2505.10833)) fixes: models, data budgets, tasks. It
lives on the Hugging Face Hub and wants GPUs; `mergebench plan` says what a run costs, `mergebench models fetch`
brings models and data here. [status.md](status.md) says what was run for real and what against stand-ins only.

"""
CALIBRATION_INTRODUCTION = """
## What a method may read

1,000 samples per domain, drawn uniformly with a fixed seed (the same for everybody) from the published subsets, in
the prompt format of the released training. A reader counts them and refuses more.

"""
RULES = """\
## How it is run

- **References first.** The base and its five specialists are scored on the same items: they are the
  denominators. A specialist whose tokenizer or vocabulary differs from the base's is scored with its own.
- **Tuning** reads surrogate tasks only, at most 35 full validations; the winner has the highest unweighted mean
  over the domains. It is merged once into a file, and that file is scored.
- **A score** is the mean over items; of a task with parts, the unweighted mean of the parts. A domain's score
  is the unweighted mean of its tasks, its normalized performance that score divided by its specialist's, the
  headline the mean over the domains. Generalization: each task divided by the base's score, then the mean.
- **Prompts.** Tasks of lm-eval's kind are plain text for every base, as the released scripts run them (no chat
  template). Requests of the safety sets go in the base's prompt format: the chat template of its tokenizer for
  instruction-tuned bases, the instruction format of the released training (Alpaca) for pretrained ones. Templates
  that write a date (Llama 3) are given 26 Jul 2024, and not the day of the run.
- **Engines.** `--engine hf` (transformers) or `vllm` ([engines.md](engines.md)); weights are replaced in place
  while a method is tuned. Rows of different engines stay apart.
- **Judges** ([judges.md](judges.md)). `wildguard` by default; its refusal label is the refusal rate, harm is
  recorded beside it and never ranked. Rows of different judges, or of different revisions of one, stay apart.
- **Suites.** `--suite lite` keeps IFEval and code whole, 3,000 multilingual items and fixed subsets of the
  rest, drawn by the digest of the items' ids, those of XSTest and SQuAD 2.0 in the shares of their labels. Its
  rows stay apart from those of the full suite.
- **Protocols.** `--protocol paper` tunes on what the released code tunes on: IFEval itself, STEM questions of
  MMLU's test split, harmful WildJailbreak prompts alone. That is tuning on test items, so its rows never share
  a ranking with those of the `standard` protocol.
- **Pins.** `mergebench track lock` writes commits and file digests of all repositories into the package. Until
  there is a lock, commits (the judge's too) are resolved once per home and stand in every record. The track's
  digest covers the prepared data, the same for all bases; results of a base at other commits of its models are
  shown and ranked apart.
- **Overlaps.** When data are prepared, calibration, surrogate, generalization and test items are compared
  (exact, 13-grams of words, question ids across languages); the record keeps the counts, `mergebench track
  audit` shows them.

"""


def benchmark(table: Table) -> str:
    """Render the page."""
    from mergebench_core.tracks.mergebench_v1.bases import bases
    from mergebench_core.tracks.registry import load_track

    world = load_track("mergebench-v1")
    text = (
        INTRODUCTION + "## Models\n\nThe specialists of a base are `MergeBench/<model>_<domain>` for the domains "
    )
    text += f"{', '.join(world.domains)}: {sum(len(base.hub_models) - 1 for base in bases({}).values())} in all. "
    text += "The bases are gated: accept their terms on the Hub and log in.\n\n"
    text += table(
        ("base", "repository", "family", "parameters", "instruction-tuned", "requests as", "licence"),
        [
            (
                f"`{base.name}`",
                base.hub_models["base"].repo,
                base.family,
                f"{base.hub_models['base'].num_parameters / 1e9:.2f} billion",
                "yes" if base.is_instruct else "no",
                base.prompt_format,
                base.hub_models["base"].licence,
            )
            for base in bases({}).values()
        ],
    )
    return text + _calibration(table) + _tasks(table) + _sources(table) + "\n" + RULES + _settings()


def _calibration(table: Table) -> str:
    from mergebench_core.tracks.mergebench_v1.calibration import CALIBRATION

    rows = [
        (domain, found.source.repo, ", ".join(found.source.columns), found.source.licence)
        for domain, found in CALIBRATION.items()
    ]
    return CALIBRATION_INTRODUCTION + table(("domain", "data set", "columns", "licence of the training set"), rows)


def _tasks(table: Table) -> str:
    from mergebench_core.tracks.mergebench_v1.suite import tasks

    headings = {
        "test": "Test tasks",
        "surrogate": "Surrogate tasks (for choosing a configuration)",
        "generalization": "Generalization tasks",
    }
    lite = {task.name: task.num_items for task in tasks("lite")}
    text = ""
    for purpose, heading in headings.items():
        rows = [
            (
                f"`{task.name}`",
                task.title,
                task.domain or "-",
                f"{task.num_items:,}",
                f"{lite[task.name]:,}",
                f"`{task.metric}`" + (" (judged)" if task.is_judged else ""),
                ", ".join(f"`{key}`" for key in task.other_metrics) or "-",
                str(task.num_shots),
                str(task.decoding or "log-likelihood"),
                f"{100 * task.chance:.0f}",
            )
            for task in tasks("full")
            if task.purpose == purpose
        ]
        columns = (
            "task",
            "data",
            "domain",
            "items",
            "lite",
            "metric",
            "also recorded",
            "shots",
            "decoding",
            "chance %",
        )
        text += f"\n## {heading}\n\n" + table(columns, rows)
    return text


def _sources(table: Table) -> str:
    from mergebench_core.tracks.mergebench_v1.item_sets import HubSource
    from mergebench_core.tracks.mergebench_v1.preparation import sources
    from mergebench_core.tracks.mergebench_v1.published_files import name_of

    text = (
        "\n## Data and licences\n\nLicences as the paper lists them (appendix B.3) and as the sources say; where "
    )
    text += "they disagree, both.\n\n"
    rows = [
        (
            name_of(source),
            "Hub" if isinstance(source, HubSource) else "GitHub",
            "yes" if isinstance(source, HubSource) and source.is_gated else "no",
            source.licence,
        )
        for source in sources()
    ]
    return text + table(("source", "where", "gated", "licence"), rows)


def _settings() -> str:
    from mergebench_core.tracks.registry import load_track

    found = load_track("mergebench-v1").evaluation
    return (
        f"Models are scored in {found.dtype}, at most {found.max_length:,} tokens of prompt and answer together "
        f"(of a longer prompt the beginning is cut), {found.batch_size} sequences at a time where choices are "
        f"compared, {found.generation_batch_size} where answers are generated.\n"
    )
