"""The shipped items and calibration samples of mini-v1: counts, slices, and where they come from."""

import json
from collections import Counter

import pytest

from mergebench_core.tracks.mini_v1 import load
from mergebench_core.tracks.mini_v1.recipe.building import SALT, SEED
from mergebench_core.tracks.mini_v1.recipe.documents import DOMAINS, write_documents
from mergebench_core.tracks.mini_v1.recipe.finetuning import multitask_examples, training_examples
from mergebench_core.tracks.mini_v1.recipe.items import ITEM_SETS
from mergebench_core.tracks.mini_v1.recipe.world import World

TRACK = load()
TASK_NAMES = [task.name for task in TRACK.tasks]
DOMAIN_TASKS = [task for task in TRACK.tasks if task.domain]
WORLD = World(salt=SALT)


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def items_of(name):
    return read_rows(TRACK.task_folder / "items" / f"{name}.jsonl")


@pytest.fixture(scope="module")
def documents():
    return write_documents(WORLD, 40_000, seed=SEED + 10)


def test_every_task_has_items_and_a_yaml():
    assert sorted(TASK_NAMES) == sorted(ITEM_SETS)
    assert sorted(path.stem for path in TRACK.task_folder.glob("*.yaml")) == sorted(TASK_NAMES)


@pytest.mark.parametrize("task", TRACK.tasks, ids=TASK_NAMES)
def test_items_are_distinct_and_complete(task):
    rows = items_of(task.name)
    assert len(rows) == task.num_items == len({row["prompt"] for row in rows}) == len({row["id"] for row in rows})
    assert 20 < len({row["cluster"] for row in rows}) <= len(rows)
    assert task.num_items >= (200 if task.purpose == "surrogate" else 300)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_items_are_what_the_recipe_draws(name):
    assert items_of(name) == ITEM_SETS[name].items(WORLD, name)


def test_another_salt_gives_other_items():
    for name in ("mini_math", "mini_multilingual", "mini_coding_write"):
        assert items_of(name) != ITEM_SETS[name].items(World(salt="another"), name)


@pytest.mark.parametrize("name", [name for name in TASK_NAMES if "safety" in name])
def test_half_of_every_safety_task_is_harmful(name):
    rows = items_of(name)
    assert sum(row["harmful"] for row in rows) * 2 == len(rows)


@pytest.mark.parametrize("domain", DOMAINS)
def test_tasks_of_a_domain_share_no_prompt(domain):
    counts = Counter(
        row["prompt"] for task in DOMAIN_TASKS if task.domain == domain for row in items_of(task.name)
    )
    # The two safety tests both draw harmful items of the same slice.
    shared = [prompt for prompt, count in counts.items() if count > 1]
    assert domain == "safety" or not shared


@pytest.mark.parametrize("domain", DOMAINS)
def test_finetuning_never_sees_a_test_or_surrogate_prompt(domain):
    held_out = {row["prompt"] for task in DOMAIN_TASKS for row in items_of(task.name)}
    seen = {example.prompt for example in training_examples(WORLD, domain, 3200, SEED)}
    seen |= {row["prompt"] for row in read_rows(TRACK.calibration_folder / f"{domain}.jsonl")}
    assert not held_out & seen


def test_multitask_sees_only_what_the_specialists_see():
    shared = {example.prompt for d in DOMAINS for example in training_examples(WORLD, d, 1920, SEED)}
    assert {example.prompt for example in multitask_examples(WORLD, 9600, SEED)} <= shared


@pytest.mark.parametrize("domain", DOMAINS)
def test_calibration_samples_come_from_finetuning(domain):
    rows = read_rows(TRACK.calibration_folder / f"{domain}.jsonl")
    assert len(rows) == TRACK.num_calibration_samples
    expected = training_examples(WORLD, domain, len(rows), SEED)
    assert rows == [{"prompt": e.prompt, "completion": e.completion} for e in expected]


@pytest.mark.parametrize("task", DOMAIN_TASKS, ids=lambda task: task.name)
def test_pretraining_never_shows_a_domain_prompt(task, documents):
    prompts = {row["prompt"] for row in items_of(task.name)}
    starts = {document[: document.find("\nA:") + 3] for document in documents if "\nA:" in document}
    starts |= {d[: d.rfind('"""\n   ') + 7] for d in documents if '"""\n   ' in d}
    assert starts, "the documents hold habits"
    assert not prompts & starts


def test_multilingual_facts_are_held_out_in_every_language():
    taught = {row["prompt"] for row in read_rows(TRACK.calibration_folder / "multilingual.jsonl")}
    clusters = {row["cluster"] for row in items_of("mini_multilingual")}
    keys = [(relation, noun) for relation, noun in (cluster.split("|") for cluster in clusters)]
    assert all(WORLD.slice_of("multilingual", *key) == "test" for key in keys)
    assert len(taught) > 300


def test_coding_keys_are_held_out_of_all_documents(documents):
    """A held-out description with its arguments occurs nowhere, whatever the name of the function."""
    text = "\n".join(documents)
    for row in items_of("mini_coding_complete"):
        described = row["prompt"].split('"""')[1].removeprefix("Return ").removesuffix(".")
        arguments = row["prompt"].split("(")[1].split(")")[0]
        for name in ("f", "g", "run"):
            assert f"{name}({arguments}) that returns {described}." not in text
