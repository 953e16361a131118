"""The track mergebench-v1 as a whole: its tables agree with each other, with their YAML, and with the paper."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from mergebench_core.errors import InputError
from mergebench_core.tracks.mergebench_v1.bases import bases
from mergebench_core.tracks.mergebench_v1.item_sets import FileSource, HubSource, lite_subset
from mergebench_core.tracks.mergebench_v1.preparation import audit, sources
from mergebench_core.tracks.mergebench_v1.published_files import write_items
from mergebench_core.tracks.mergebench_v1.sets.paper import adapt_stem_test
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


def test_bases_share_a_world_and_name_their_models():
    """The digest covers prepared data and no commits; those of its models tell results of a base apart."""
    base = TRACK.bases["llama-3.2-3b"]
    local = TrackBase(
        name=base.name, title=base.title, family=base.family, path=Path("a"), specialists={}, references={},
        prompt_format=base.prompt_format, hub_models=base.hub_models,
    )  # fmt: skip
    commits = {model.repo: "1" * 40 for model in base.hub_models.values()}
    here = dataclasses.replace(TRACK, bases={**TRACK.bases, base.name: local}, revisions=commits)
    moved = dataclasses.replace(here, revisions=commits | {"MergeBench/Llama-3.2-3B_math": "2" * 40})
    other_data = dataclasses.replace(here, revisions=commits | {"google/IFEval": "3" * 40})
    assert TRACK.digest == here.digest == moved.digest == other_data.digest
    assert here.models_sha256(base.name) == other_data.models_sha256(base.name) != moved.models_sha256(base.name)
    assert here.digest != dataclasses.replace(here, data_digests={"items/ifeval.jsonl": "0" * 64}).digest
    assert load_track("mini-v1").models_sha256("mini-llama") is None


def test_the_embedded_track_offers_no_choice():
    with pytest.raises(InputError, match="one suite"):
        load_track("mini-v1", WorldOptions(suite="lite"))


def test_every_source_has_a_licence():
    assert all(source.licence and source.columns for source in sources())
    gated = {source.repo for source in sources() if isinstance(source, HubSource) and source.is_gated}
    assert gated == {"allenai/wildguardmix", "allenai/wildjailbreak"}


def test_every_file_is_named_by_a_commit():
    """The bytes of a release's assets can differ from those of the repository, which the digests are of."""
    files = [source for source in sources() if isinstance(source, FileSource)]
    assert len(files) == 6
    assert all(re.fullmatch(r"raw/[0-9a-f]{40}/.+", source.path) for source in files)


def test_a_lite_subset_depends_on_ids_alone():
    items = [{"id": str(number), "text": "x" * number} for number in range(200)]
    chosen = [item["id"] for item in lite_subset(items, "set", 20)]
    assert len(chosen) == 20
    assert chosen == sorted(chosen, key=int)
    assert {item["id"] for item in lite_subset(items[::-1], "set", 20)} == set(chosen)
    assert [item["id"] for item in lite_subset(items, "other", 20)] != chosen
    assert lite_subset(items, "set", 200) == items


def test_a_lite_subset_keeps_the_shares_of_labels():
    """Of 8 safe and 4 unsafe items, 6 are 4 and 2; of one more it is the safe one, as 4.5/8 is less than 2.5/4."""
    items = [{"id": str(number), "is_unsafe": number < 4} for number in range(12)]
    chosen = lite_subset(items, "xstest", 6)
    assert [item["is_unsafe"] for item in chosen] == [True] * 2 + [False] * 4
    assert {item["id"] for item in lite_subset(items[::-1], "xstest", 6)} == {item["id"] for item in chosen}
    one_more = lite_subset(items, "xstest", 7)
    assert sum(item["is_unsafe"] for item in one_more) == 2
    assert [item for item in one_more if item in chosen] == chosen
    questions = [{"id": str(number), "answers": ["x"] * (number % 3)} for number in range(12)]
    assert [bool(item["answers"]) for item in lite_subset(questions, "squadv2", 6)].count(False) == 2


def test_the_chance_level_of_a_lite_subset_is_that_of_its_labels():
    """XSTest: 200 of 450 are 200 * 250 / 450 = 111.1 safe. SQuAD: 500 * 5945 / 11873 = 250.4 without answer."""
    lite, full = ({task.name: task.chance for task in tasks(suite)} for suite in ("lite", "full"))
    assert (lite["xstest"], full["xstest"]) == (111 / 200, 250 / 450)
    assert (lite["squadv2"], full["squadv2"]) == (250 / 500, 5945 / 11_873)
    assert {name for name in full if full[name] != lite[name]} == {"xstest", "squadv2"}
    safety = [{"id": str(number), "is_unsafe": number >= 250} for number in range(450)]
    assert [item["is_unsafe"] for item in lite_subset(safety, "xstest", 200)].count(False) == 111
    squad = [{"id": str(number), "answers": ["x"] * (number >= 5945)} for number in range(11_873)]
    assert [item["answers"] for item in lite_subset(squad, "squadv2", 500)].count([]) == 250


def test_the_audit_finds_what_the_paper_s_protocol_tunes_on(tmp_path):
    """IFEval stands under two names; MMLU's questions under the same ids in both sets."""
    rows = {name: [{"id": "1", "prompt": f"{name} says."}] for name in item_sets("paper")}
    question = {"question": "What is 1 + 1?", "choices": ["1", "2", "3", "4"], "answer": 1}
    rows["mmlu"] = [question | {"id": "astronomy/test/0", "subject": "astronomy"}]
    rows["mmlu_stem_test"] = adapt_stem_test([question | {"subject": "astronomy"}])
    for name, items in rows.items():
        write_items(tmp_path / "items" / f"{name}.jsonl", items)
    for domain in TRACK.domains:
        write_items(tmp_path / "calibration" / f"{domain}.jsonl", [{"prompt": domain, "completion": "."}])
    found = audit(tmp_path, "paper", lambda line: None)
    purposes = {entry.name: entry.purpose for entry in found.sets}
    assert (purposes["ifeval"], purposes["ifeval_tuned_on"]) == ("test", "surrogate")
    assert len(purposes) == len(rows) + len(TRACK.domains) + 1
    pairs = [("ifeval_tuned_on", "ifeval"), ("ifeval", "ifeval_tuned_on")]
    pairs += [("mmlu_stem_test", "mmlu"), ("mmlu", "mmlu_stem_test")]
    expected = {f"exact:{one}/{other}": 1 for one, other in pairs}
    expected |= {f"question:{one}/{other}": 1 for one, other in pairs[2:]}
    assert found.to_counts() == expected
