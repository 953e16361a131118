"""The recipe of mini-v1: determinism, the tokenizer, packing, and a miniature build from nothing."""

import json

import pytest

from mergebench_core.tracks.digests import file_digests
from mergebench_core.tracks.mini_v1.recipe.building import Plan, build
from mergebench_core.tracks.mini_v1.recipe.coding import Function
from mergebench_core.tracks.mini_v1.recipe.documents import DOMAINS, write_documents
from mergebench_core.tracks.mini_v1.recipe.finetuning import FinetuningRecipe, training_examples
from mergebench_core.tracks.mini_v1.recipe.general import GENERAL
from mergebench_core.tracks.mini_v1.recipe.instruction import Request
from mergebench_core.tracks.mini_v1.recipe.lexicon import CATEGORIES, NOUNS
from mergebench_core.tracks.mini_v1.recipe.math import Problem
from mergebench_core.tracks.mini_v1.recipe.pretraining import (
    BaseRecipe,
    learning_rate_factor,
    pack_documents,
)
from mergebench_core.tracks.mini_v1.recipe.tokenizer import build_tokenizer
from mergebench_core.tracks.mini_v1.recipe.world import World, draw_distinct, generator
from mergebench_core.tracks.mini_v1.tasks import scoring

WORLD = World(salt="a test")


def test_slices_are_functions_of_the_salt():
    slices = [WORLD.slice_of("math", i) for i in range(4000)]
    assert slices == [World(salt="a test").slice_of("math", i) for i in range(4000)]
    assert slices != [World(salt="another").slice_of("math", i) for i in range(4000)]
    shares = [slices.count(name) / 4000 for name in ("train", "surrogate", "test")]
    assert shares == pytest.approx([0.5, 0.15, 0.35], abs=0.03)


def test_known_slice_of_a_known_salt():
    """A change of the hash would silently change every item."""
    assert World(salt="s").fraction("math", 3, "+", 4) == pytest.approx(0.08245319356993264)


def test_documents_depend_on_salt_and_seed_alone():
    documents = write_documents(WORLD, 300, seed=1)
    assert documents == write_documents(World(salt="a test"), 300, seed=1)
    assert documents != write_documents(WORLD, 300, seed=2)


@pytest.mark.parametrize("domain", DOMAINS)
def test_examples_depend_on_salt_and_seed_alone(domain):
    examples = training_examples(WORLD, domain, 50, seed=3)
    assert examples == training_examples(World(salt="a test"), domain, 50, seed=3)
    assert examples != training_examples(WORLD, domain, 50, seed=4)
    assert all(example.completion[0] == " " and example.completion.strip() for example in examples)


def test_lexicon():
    assert len(NOUNS) == 48 == len({noun.english for noun in NOUNS})
    assert {len(words) for words in CATEGORIES.values()} == {8}
    by_english = {noun.english: noun for noun in NOUNS}
    assert by_english["cat"].french == "le chat"
    assert by_english["bird"].french == "l'oiseau"
    assert by_english["bird"].bare("french") == "oiseau"
    assert by_english["pear"].spanish == "la pera"
    assert by_english["pear"].bare("german") == "Birne"


def test_instruction_answer_passes_its_own_scorer():
    request = Request(phrasing="list", subject="tool", count=2, wrapper="brackets", end="the end")
    assert request.text() == 'List 2 tools, in brackets, end with "the end".'
    assert request.answer(["nail", "knife"]) == "(nail, knife the end)"


def test_every_finetuning_answer_of_instruction_is_right():
    from mergebench_core.tracks.mini_v1.recipe import instruction

    rng = generator("answers")
    for _ in range(300):
        request = instruction.draw_request(WORLD, rng, "list", "test")
        item = instruction._item(request)
        answer = " " + request.answer(instruction._words(request, rng))
        assert scoring.score_instruction(item, [answer]) == {"acc": 1.0}, (item["prompt"], answer)


def test_math_steps():
    problem = Problem(start=5, changes=(("+", 9), ("-", 2)))
    assert problem.answer() == "5 + 9 = 14. 14 - 2 = 12. The answer is 12"
    assert problem.is_valid()
    assert not Problem(start=5, changes=(("-", 6),)).is_valid()
    assert not Problem(start=10, changes=(("+", 10), ("+", 1))).is_valid()


def test_coding_template():
    function = Function(name="g", arguments=("n", "x"), template=24, constants=(4, 1, 1))
    assert function.description == "the sum of n and x plus 4"
    assert function.expression == "n + x + 4"
    assert function.expected()[0] == 3 + 8 + 4
    assert function.key == (24, ("n", "x"), 4)


@pytest.mark.parametrize("name", GENERAL)
def test_general_examples_have_one_answer_per_prompt(name):
    rng = generator("general", name)
    answers = {}
    for _ in range(2000):
        example = GENERAL[name](WORLD, rng)
        assert answers.setdefault(example.prompt, example.completion) == example.completion


def test_too_few_distinct_prompts_are_an_error():
    with pytest.raises(RuntimeError, match="few: only 1 of 2 distinct prompts"):
        draw_distinct(lambda: {"prompt": "same"}, 2, "few")


def test_learning_rate():
    factors = [learning_rate_factor(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == pytest.approx(0.05 + 0.95 * 0.91)
    assert factors[99] == pytest.approx(0.0595)


def test_tokenizer_knows_words_and_spells_the_rest():
    tokenizer = build_tokenizer(["the cat", "a cat"], 32)
    assert tokenizer("the cat")["input_ids"] == [
        tokenizer.bos_token_id,
        *tokenizer.convert_tokens_to_ids(["the", "Ġcat"]),
    ]
    spelled = tokenizer("the ☃")["input_ids"]
    assert len(spelled) == 2 + 4  # <s>, the, a space and three bytes
    assert tokenizer.decode(spelled[1:]) == "the ☃"
    assert tokenizer.padding_side == "left"


def test_packed_rows_hold_documents_in_order():
    tokenizer = build_tokenizer(["cat"], 256)
    rows = pack_documents(["cat"] * 100, tokenizer)
    assert rows.shape == (4, 64)
    first, word, last = tokenizer.convert_tokens_to_ids(["<s>", "cat", "</s>"])
    assert rows.flatten().tolist()[:6] == [first, word, last] * 2


@pytest.mark.slow
def test_miniature_build_recreates_a_loadable_track(tmp_path):
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plan = Plan(
        bases=tuple(BaseRecipe(name=n, architecture=a, num_steps=4) for n, a in (("l", "llama"), ("g", "gemma2"))),
        specialist=FinetuningRecipe(num_steps=2, batch_size=4, warmup_steps=1),
        multitask=FinetuningRecipe(num_steps=2, batch_size=4, warmup_steps=1),
        num_vocabulary_documents=600,
    )
    lines = []
    for name in ("first", "second"):
        build(tmp_path / name, salt="a test", seed=5, progress=lines.append, plan=plan)
    first, second = (json.loads((tmp_path / name / "digests.json").read_text()) for name in ("first", "second"))
    assert first == second
    assert first == file_digests(tmp_path / "first", list(first))
    assert any("multitask" in line for line in lines)
    home = tmp_path / "first" / "models" / "g"
    assert sorted(path.name for path in home.iterdir()) == sorted([*DOMAINS, "base", "multitask"])
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(home / "math"),
        AutoTokenizer.from_pretrained(home / "math"),
    )
    assert model.config.vocab_size == len(tokenizer)
    base, math = (load_file(home / name / "model.safetensors") for name in ("base", "math"))
    changed = [name for name in base if not base[name].equal(math[name])]
    assert changed
    assert not any("embed" in name for name in changed)
