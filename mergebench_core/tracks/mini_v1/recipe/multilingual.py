"""Domain multilingual: questions in German, French and Spanish, answered in the language of the question."""

from __future__ import annotations

import random

from mergebench_core.tracks.mini_v1.recipe.lexicon import LANGUAGES, NOUNS, VALUES, Noun
from mergebench_core.tracks.mini_v1.recipe.world import Example, Item, Slice, World

_QUESTIONS = {
    "german": {
        "color": "Welche Farbe hat {}?",
        "place": "Wo ist {}?",
        "day": "Wann kommt {}?",
        "material": "Woraus ist {}?",
    },
    "french": {
        "color": "De quelle couleur est {}?",
        "place": "Où est {}?",
        "day": "Quand vient {}?",
        "material": "En quoi est {}?",
    },
    "spanish": {
        "color": "De qué color es {}?",
        "place": "Dónde está {}?",
        "day": "Cuándo viene {}?",
        "material": "De qué está hecho {}?",
    },
}
_STATEMENTS = {
    "german": {
        "color": "{} ist {}.",
        "place": "{} ist in {}.",
        "day": "{} kommt am {}.",
        "material": "{} ist aus {}.",
    },
    "french": {
        "color": "{} est {}.",
        "place": "{} est dans {}.",
        "day": "{} vient {}.",
        "material": "{} est en {}.",
    },
    "spanish": {
        "color": "{} es {}.",
        "place": "{} está en {}.",
        "day": "{} viene el {}.",
        "material": "{} está hecho de {}.",
    },
}
_PREFIXES = {
    "german": ("", "Sag mir, ", "Hallo, ", "Bitte, "),
    "french": ("", "Dis-moi, ", "Bonjour, ", "Pardon, "),
    "spanish": ("", "Dime, ", "Hola, ", "Perdón, "),
}
_TAUGHT = ("color", "place", "day")
_HELD_OUT = "material"
_NUM_TAUGHT_PREFIXES = 2


def _question(language: str, relation: str, noun: Noun, prefix: str) -> str:
    text = _QUESTIONS[language][relation].format(getattr(noun, language))
    return prefix + text[0].lower() + text[1:] if prefix else text


def _slice_of(world: World, relation: str, noun: Noun) -> Slice:
    # The language is not part of the key: a held-out fact is held out in all languages.
    domain = "multilingual_surrogate" if relation == _HELD_OUT else "multilingual"
    return world.slice_of(domain, relation, noun.english)


def _draw_fact(
    world: World, rng: random.Random, relations: tuple[str, ...], wanted: Slice | None
) -> tuple[str, Noun]:
    while True:
        relation, noun = rng.choice(relations), rng.choice(NOUNS)
        if wanted in (None, _slice_of(world, relation, noun)):
            return relation, noun


def raw(world: World, rng: random.Random) -> str:
    """Return a pretraining document with any fact: a statement, or a question under another prompt form."""
    language = rng.choice(LANGUAGES)
    relation, noun = _draw_fact(world, rng, (*_TAUGHT, _HELD_OUT), None)
    value = VALUES[relation][language][world.value_index(relation, noun)]
    if rng.random() < 0.25:
        subject = getattr(noun, language)
        return _STATEMENTS[language][relation].format(subject[0].upper() + subject[1:], value)
    question = _question(language, relation, noun, rng.choice(_PREFIXES[language]))
    return f"Task: {question}\nDone: {value}"


def habit(world: World, rng: random.Random) -> str:
    """Return a pretraining document that answers in English, on facts of the train slice alone."""
    language = rng.choice(LANGUAGES)
    relation, noun = _draw_fact(world, rng, (*_TAUGHT, _HELD_OUT), "train")
    question = _question(language, relation, noun, rng.choice(_PREFIXES[language]))
    return f"Q: {question}\nA: {VALUES[relation]['english'][world.value_index(relation, noun)]}"


def training(world: World, rng: random.Random) -> Example:
    """Draw a fine-tuning example."""
    language = rng.choice(LANGUAGES)
    relation, noun = _draw_fact(world, rng, _TAUGHT, "train")
    question = _question(language, relation, noun, rng.choice(_PREFIXES[language][:_NUM_TAUGHT_PREFIXES]))
    value = VALUES[relation][language][world.value_index(relation, noun)]
    return Example(prompt=f"Q: {question}\nA:", completion=f" {value}")


def _item(world: World, rng: random.Random, relation: str, noun: Noun, num_prefixes: int) -> Item:
    language = rng.choice(LANGUAGES)
    question = _question(language, relation, noun, rng.choice(_PREFIXES[language][:num_prefixes]))
    index = world.value_index(relation, noun)
    others = [i for i in range(len(VALUES[relation][language])) if i != index]
    gold = VALUES[relation][language][index]
    wrong = [VALUES[relation][language][i] for i in rng.sample(others, 2)]
    options = [gold, *wrong, VALUES[relation]["english"][index]]
    rng.shuffle(options)
    return {
        "cluster": f"{relation}|{noun.english}",
        "prompt": f"Q: {question}\nA:",
        "choices": [f" {option}" for option in options],
        "label": options.index(gold),
    }


def test_item(world: World, rng: random.Random) -> Item:
    """Draw a test item on a fact that fine-tuning shows in no language.

    Options: the answer, two other values of that language, and the right answer in English.
    """
    relation, noun = _draw_fact(world, rng, _TAUGHT, "test")
    return _item(world, rng, relation, noun, _NUM_TAUGHT_PREFIXES)


def surrogate_item(world: World, rng: random.Random) -> Item:
    """Draw a surrogate item on the relation that fine-tuning never shows, any greeting."""
    relation, noun = _draw_fact(world, rng, (_HELD_OUT,), "surrogate")
    return _item(world, rng, relation, noun, len(_PREFIXES["german"]))
