"""The paper's training sets: what a row becomes, what is counted, in which format it is asked."""

import datasets
import pytest
from training_rows import ROWS

from mergebench_core.errors import InputError
from mergebench_core.training.datasets import DATASETS, DOMAINS, datasets_for
from mergebench_core.training.loading import dataset_sha256, load_training_set, mix
from mergebench_core.training.prompt_format import instruction_prompt

BY_NAME = {dataset.name: dataset for dataset in DATASETS}


def pairs(data):
    return list(zip(data["prompt"], data["completion"], strict=True))


def rows_of(name):
    return ROWS[BY_NAME[name].repo]


def test_prompt_format():
    assert instruction_prompt("Add 2\nand 3.") == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nAdd 2\nand 3.\n\n### Response:\n"
    )
    assert instruction_prompt("Add.", "2, 3") == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request."
        "\n\n### Instruction:\nAdd.\n\n### Input:\n2, 3\n\n### Response:\n"
    )


def test_seven_sets_with_the_counts_of_the_paper():
    counted = [(each.domain, each.method, each.paper_count) for each in DATASETS]
    assert counted == [
        ("instruction", "sft", 29_900),
        ("math", "sft", 591_000),
        ("math", "grpo", 72_400),
        ("multilingual", "sft", 5_940),
        ("coding", "sft", 110_000),
        ("safety", "sft", 86_760),
        ("safety", "sft", 261_560),
    ]
    assert [each.name for each in DATASETS if each.is_gated] == ["wildguardmix", "wildjailbreak"]
    assert DOMAINS == ("instruction", "math", "multilingual", "coding", "safety")


def test_count_agrees_within_the_last_printed_digit():
    tulu = BY_NAME["tulu_3_persona_if"]
    assert tulu.agrees_with_paper(29_980)  # what the card says: truncated
    assert tulu.agrees_with_paper(29_850)
    assert not tulu.agrees_with_paper(30_000)
    assert BY_NAME["wildguardmix"].agrees_with_paper(86_759)
    assert not BY_NAME["wildguardmix"].agrees_with_paper(37_976)


EXPECTED = {
    "tulu_3_persona_if": ("List 0 rivers.", "Rhine 0\nRhône"),
    "dart_math": ("What is 0 + 1?", "It is $\\boxed{1}$."),
    "numina_math_tir": (
        "Compute $1^2$.",
        "```python\nprint(1**2)\n```\n```output\n1\n```\nSo \\[\\boxed{1}\\]",
    ),
    "aya": ("Frage 0? ", "Antwort 0"),
    "magicoder": ("Write f0.", "```python\ndef f0(): ...\n```"),
    "wildguardmix": ("How do I 0?", "I cannot help."),
    "wildjailbreak": ("How do I make soup?", "Boil water."),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_rows_become_prompts_and_completions(name):
    usable = [example for row in rows_of(name) if (example := BY_NAME[name].example(row))]
    instruction, completion = EXPECTED[name]
    assert usable[0] == {"prompt": instruction_prompt(instruction), "completion": completion}


def test_adversarial_rows_of_wildjailbreak_ask_the_adversarial_prompt():
    example = BY_NAME["wildjailbreak"].example(rows_of("wildjailbreak")[1])
    assert example["prompt"] == instruction_prompt("You are a poet. Sing of a lock\tand how it opens.")


def test_wildguard_rows_without_a_harmless_response_are_left_out():
    used = [bool(BY_NAME["wildguardmix"].example(row)) for row in rows_of("wildguardmix")]
    assert used == [True, False, False, True, False]


def test_loading_counts_and_tells_differences(hub):
    told = []
    loaded = load_training_set(BY_NAME["aya"], None, told.append)
    assert hub.calls == [("CohereForAI/aya_dataset", None, {"split": "train", "revision": None})]
    assert (loaded.num_rows, loaded.num_selected, len(loaded.examples)) == (5, 4, 4)
    assert loaded.examples.column_names == ["prompt", "completion"]
    assert "4 rows where the paper counts 5,940" in told[-1]
    assert loaded.to_dict()["difference"] in told[-1]


def test_loading_tells_rows_that_cannot_be_used(hub):
    told = []
    loaded = load_training_set(BY_NAME["wildguardmix"], None, told.append)
    assert hub.calls[0][1] == "wildguardtrain"
    assert (loaded.num_selected, len(loaded.examples)) == (5, 2)
    assert "2 of 5 rows can be trained on" in told[-1]


def test_wildjailbreak_is_read_as_tab_separated_text(hub):
    load_training_set(BY_NAME["wildjailbreak"], None, lambda _: None)
    settings = hub.calls[0][2]
    assert (hub.calls[0][1], settings["delimiter"], settings["keep_default_na"]) == ("train", "\t", False)


def test_other_columns_are_one_line(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([{"question": "?"}]))
    with pytest.raises(
        InputError, match=r"dart-math-uniform: its rows are not as expected .*columns are question"
    ):
        load_training_set(BY_NAME["dart_math"], None, lambda _: None)


def test_without_network_and_cache_it_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(InputError, match=r"^dataset allenai/wildguardmix: [^\n]+$"):
        load_training_set(BY_NAME["wildguardmix"], None, lambda _: None)


def test_all_mixes_every_supervised_set_by_the_seed(hub):
    parts = [load_training_set(source, None, lambda _: None) for source in datasets_for("all", "sft")]
    assert len(parts) == 6
    one, same, other = (mix(parts, seed) for seed in (1, 1, 2))
    assert sorted(pairs(one)) == sorted(pair for part in parts for pair in pairs(part.examples))
    assert one[:] == same[:] != other[:]
    assert dataset_sha256(one) == dataset_sha256(same) != dataset_sha256(other)


def test_digest_knows_where_a_text_ends():
    pair = [{"prompt": "ab", "completion": "c"}], [{"prompt": "a", "completion": "bc"}]
    first, second = (dataset_sha256(datasets.Dataset.from_list(rows)) for rows in pair)
    assert first != second
