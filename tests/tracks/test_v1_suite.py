"""The track mergebench-v1 as a whole: its tables agree with each other, with their YAML, and with the paper."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from mergebench_core.errors import InputError
from mergebench_core.tracks.mergebench_v1.bases import bases
from mergebench_core.tracks.mergebench_v1.item_sets import HubSource, lite_subset
from mergebench_core.tracks.mergebench_v1.preparation import sources
from mergebench_core.tracks.mergebench_v1.suite import ITEM_SETS, STANDARD_SETS, item_sets, tasks
from mergebench_core.tracks.registry import load_track
from mergebench_core.tracks.track import TrackBase
from mergebench_core.tracks.world import WorldOptions

TRACK = load_track("mergebench-v1")
ALL_TASKS = {task.name: task for protocol in ("standard", "paper") for task in tasks("full", protocol)}
PARTS = [(task, part) for task in ALL_TASKS.values() for part in task.part_names]


class _Loader(yaml.SafeLoader):
    """Reads lm-eval's `!function` as text."""


_Loader.add_constructor("!function", lambda loader, node: f"!function {loader.construct_scalar(node)}")


def configuration(name: str) -> dict:
    """Return an lm-eval task's YAML with what it includes."""
    found = yaml.load((TRACK.task_folder / name).read_text(encoding="utf-8"), _Loader)
    return (configuration(found.pop("include")) if "include" in found else {}) | found


def test_the_paper_s_models():
    found = bases({})
    assert len(found) == 8
    models = [model.repo for base in found.values() for model in base.hub_models.values()]
    assert len(models) == len(set(models)) == 8 + 40
    assert "MergeBench/gemma-2-9b-it_multilingual" in models
    assert "MergeBench/Llama-3.1-8B-Instruct_coding" in models
    assert {base.name: base.hub_models["base"].repo for base in found.values()}[
        "gemma-2-2b"
    ] == "google/gemma-2-2b"
    assert all(
        set(base.hub_models) == {"base", *(f"specialist:{name}" for name in TRACK.domains)}
        for base in found.values()
    )
    assert [base.prompt_format for base in found.values()] == ["instruction", "chat"] * 4


def test_the_paper_s_sets():
    test = [task for task in TRACK.tasks if task.purpose == "test"]
    counts = {task.name: task.num_items for task in test}
    assert counts == {
        "ifeval": 541, "gsm8k": 1_319, "math": 5_000, "m_mmlu": 52_690, "m_arc": 4_677, "m_hellaswag": 37_352,
        "humaneval_plus": 164, "mbpp_plus": 378, "wildguardtest": 749, "harmbench": 320, "do_anything_now": 300,
        "xstest": 450,
    }  # fmt: skip
    by_domain = {domain: sum(task.domain == domain for task in test) for domain in TRACK.domains}
    assert by_domain == {"instruction": 1, "math": 2, "multilingual": 3, "coding": 2, "safety": 4}
    surrogate = [task.domain for task in TRACK.tasks if task.purpose == "surrogate"]
    assert surrogate == list(TRACK.domains)
    assert len([task for task in TRACK.tasks if task.purpose == "generalization"]) == 6


def test_the_lite_suite():
    lite = {task.name: task.num_items for task in tasks("lite")}
    assert lite["ifeval"] == 541
    assert (lite["humaneval_plus"], lite["mbpp_plus"]) == (164, 378)
    assert lite["m_mmlu"] + lite["m_arc"] + lite["m_hellaswag"] == 3_000
    for task in tasks("full"):
        assert lite[task.name] == task.num_items or task.purpose != "surrogate"


@pytest.mark.parametrize(("task", "part"), PARTS, ids=[part for _, part in PARTS])
def test_yaml_and_tables_agree(task, part):
    found = configuration(f"{part}.yaml")
    assert found["task"] == part
    assert found["dataset_kwargs"]["items"] == part
    assert found["dataset_kwargs"].get("num_lite_items") == ITEM_SETS[part].num_lite_items
    assert found["num_fewshot"] == task.num_shots
    metrics = {entry["metric"] for entry in found["metric_list"]}
    assert {key.partition(",")[0] for key in (task.metric, *task.other_metrics)} <= metrics
    filters = {entry["name"] for entry in found.get("filter_list", [{"name": "none"}])}
    assert {key.partition(",")[2] for key in (task.metric, *task.other_metrics)} <= filters
    if task.decoding is None:
        assert found["output_type"] in ("multiple_choice", "loglikelihood")
        return
    settings = found["generation_kwargs"]
    assert found["output_type"] == "generate_until"
    assert settings["max_gen_toks"] == task.decoding.max_tokens
    assert settings["do_sample"] is (task.decoding.temperature > 0)
    assert settings["temperature"] == task.decoding.temperature
    assert settings.get("top_p", 1.0) == task.decoding.top_p
    assert found.get("repeats", 1) == task.decoding.num_samples


def test_every_yaml_belongs_to_a_task():
    names = {path.stem for path in TRACK.task_folder.glob("*.yaml")}
    assert names == {part for _, part in PARTS}


def test_the_paper_s_protocol_tunes_on_test_items_and_scores_the_same():
    standard, paper = tasks("full"), tasks("full", "paper")
    assert [task for task in standard if task.purpose != "surrogate"] == [
        task for task in paper if task.purpose != "surrogate"
    ]
    surrogate = {task.domain: task for task in paper if task.purpose == "surrogate"}
    assert surrogate["instruction"].parts == ("ifeval",)
    assert set(item_sets("standard")) == set(STANDARD_SETS)
    assert set(item_sets("paper")) - set(STANDARD_SETS) == {"mmlu_stem_test", "wildjailbreak_harmful"}


def test_worlds_that_differ_have_digests_that_do():
    choices = [
        WorldOptions(),
        WorldOptions(suite="lite"),
        WorldOptions(protocol="paper"),
        WorldOptions(engine="vllm"),
        WorldOptions(judge="refusal_phrases"),
    ]
    assert len({load_track("mergebench-v1", choice).digest for choice in choices}) == len(choices)


def test_fetched_worlds_share_a_digest_only_if_what_they_fetched_is_the_same():
    """With a lock the bases share one digest; without, the commits that were found are part of it."""
    base = TRACK.bases["llama-3.2-3b"]
    local = TrackBase(
        name=base.name, title=base.title, family=base.family, path=Path("a"), specialists={}, references={},
        prompt_format=base.prompt_format, hub_models=base.hub_models,
    )  # fmt: skip
    here = dataclasses.replace(TRACK, bases={**TRACK.bases, base.name: local}, revisions={"a/b": "1" * 40})
    assert here.digest == TRACK.digest
    loose = dataclasses.replace(here, is_locked=False)
    assert loose.digest != TRACK.digest
    assert loose.digest != dataclasses.replace(loose, revisions={"a/b": "2" * 40}).digest
    assert here.digest != dataclasses.replace(here, data_digests={"items/ifeval.jsonl": "0" * 64}).digest


def test_the_embedded_track_offers_no_choice():
    with pytest.raises(InputError, match="one suite"):
        load_track("mini-v1", WorldOptions(suite="lite"))


def test_every_source_has_a_licence():
    assert all(source.licence and source.columns for source in sources())
    gated = {source.repo for source in sources() if isinstance(source, HubSource) and source.is_gated}
    assert gated == {"allenai/wildguardmix", "allenai/wildjailbreak"}


def test_a_lite_subset_depends_on_ids_alone():
    items = [{"id": str(number), "text": "x" * number} for number in range(200)]
    chosen = [item["id"] for item in lite_subset(items, "set", 20)]
    assert len(chosen) == 20
    assert chosen == sorted(chosen, key=int)
    assert {item["id"] for item in lite_subset(items[::-1], "set", 20)} == set(chosen)
    assert [item["id"] for item in lite_subset(items, "other", 20)] != chosen
    assert lite_subset(items, "set", 200) == items
