"""Generalization tasks: what pretraining teaches outside the five domains."""

from __future__ import annotations

import random
from itertools import pairwise

from mergebench_core.tracks.mini_v1.recipe.lexicon import (
    CATEGORIES,
    ENGLISH_NOUNS,
    LANGUAGES,
    MONTHS,
    NAMES,
    NOUNS,
    NUMBER_WORDS,
    OPPOSITES,
    RELATIONS,
    VALUES,
)
from mergebench_core.tracks.mini_v1.recipe.world import Example, World

_FACT_QUESTIONS = {
    "color": "what color is the {}?",
    "place": "where is the {}?",
    "day": "when does the {} come?",
    "material": "what is the {} made of?",
}
_CLOZE_ENDINGS = {
    "color": "The color of the {} is",
    "place": "You can find the {} in the",
    "day": "The {} will come on",
    "material": "The {} is made of",
}
_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")


def fact(world: World, rng: random.Random) -> Example:
    """Draw a question about a fact."""
    relation, noun = rng.choice(RELATIONS), rng.choice(NOUNS)
    text = _FACT_QUESTIONS[relation].format(noun.english)
    prompt = f"Q: Tell me, {text}" if rng.random() < 0.5 else f"Q: {text[0].upper()}{text[1:]}"
    value = VALUES[relation]["english"][world.value_index(relation, noun)]
    cluster = f"{relation}|{noun.english}"
    return Example(prompt=f"{prompt}\nA:", completion=f" {value}", cluster=cluster)


def cloze(world: World, rng: random.Random) -> Example:
    """Draw a sentence whose last word is a fact."""
    relation, noun = rng.choice(RELATIONS), rng.choice(NOUNS)
    ending = _CLOZE_ENDINGS[relation].format(noun.english)
    value = VALUES[relation]["english"][world.value_index(relation, noun)]
    prompt = f"{rng.choice(NAMES)} wants the {noun.english}. {ending}"
    return Example(prompt=prompt, completion=f" {value}.", cluster=f"{relation}|{noun.english}")


def dictionary(world: World, rng: random.Random) -> Example:
    """Draw a word to translate, either way."""
    language = rng.choice(LANGUAGES)
    if rng.random() < 0.7:
        noun = rng.choice(NOUNS)
        pair = (noun.english, noun.bare(language))
    else:
        relation = rng.choice(["color", "day", "material"])
        index = rng.randrange(len(VALUES[relation]["english"]))
        pair = (VALUES[relation]["english"][index], VALUES[relation][language][index])
    title, cluster = language.capitalize(), f"{pair[0]}|{language}"
    if rng.random() < 0.5:
        return Example(prompt=f"English: {pair[0]}\n{title}:", completion=f" {pair[1]}", cluster=cluster)
    return Example(prompt=f"{title}: {pair[1]}\nEnglish:", completion=f" {pair[0]}", cluster=cluster)


def arithmetic(world: World, rng: random.Random) -> Example:
    """Draw a sum or difference with a result between 0 and 20."""
    left, right = rng.randint(0, 20), rng.randint(0, 20)
    is_sum = left + right <= 20 and (left < right or rng.random() < 0.5)
    if not is_sum:
        left, right = max(left, right), min(left, right)
    result = left + right if is_sum else left - right
    sign, word = ("+", "plus") if is_sum else ("-", "minus")
    written = f"{left} {sign} {right}"
    prompt = f"{written} =" if rng.random() < 0.5 else f"Q: What is {left} {word} {right}?\nA:"
    return Example(prompt=prompt, completion=f" {result}", cluster=written)


def _neighbours() -> list[tuple[str, str, str]]:
    """Return (relation, word, answer) over all ordered series; the seven days close to a circle."""
    days = VALUES["day"]["english"]
    triples = []
    for series in (tuple(NUMBER_WORDS), tuple(MONTHS), _LETTERS, (*days, days[0])):
        triples += [("after", left, right) for left, right in pairwise(series)]
        triples += [("before", right, left) for left, right in pairwise(series)]
    return triples


def _knowledge_facts() -> list[tuple[str, str, str]]:
    facts = [
        (f"What comes {relation} {word}?", f"Tell me what comes {relation} {word}.", answer)
        for relation, word, answer in _neighbours()
    ]
    for left, right in OPPOSITES:
        for word, answer in ((left, right), (right, left)):
            facts.append((f"What is the opposite of {word}?", f"Tell me the opposite of {word}.", answer))
    for category, words in CATEGORIES.items():
        facts += [(f"What kind of thing is a {word}?", f"Tell me what a {word} is.", category) for word in words]
    return facts


KNOWLEDGE = tuple(_knowledge_facts())
"""(question, other phrasing, answer)."""


def knowledge(world: World, rng: random.Random) -> Example:
    """Draw a question about series, opposites or categories."""
    question, other, answer = rng.choice(KNOWLEDGE)
    prompt = f"Q: {rng.choice([question, other])}\nA:"
    return Example(prompt=prompt, completion=f" {answer}", cluster=question)


def reading(world: World, rng: random.Random) -> Example:
    """Draw a sentence that names three things in an order, and a question about one of them."""
    name, nouns, asked = rng.choice(NAMES), rng.sample(ENGLISH_NOUNS, 3), rng.randrange(3)
    text = f"{name} sees first the {nouns[0]}, then the {nouns[1]} and last the {nouns[2]}."
    question = f"What does {name} see {('first', 'then', 'last')[asked]}?"
    return Example(prompt=f"Q: {text} {question}\nA:", completion=f" {nouns[asked]}")


def copying(world: World, rng: random.Random) -> Example:
    """Draw words to repeat: no task of its own, it teaches to look back, which reading needs."""
    words = " ".join(rng.sample(ENGLISH_NOUNS, rng.choice([2, 3])))
    return Example(prompt=f"Copy: {words}\nText:", completion=f" {words}")


GENERAL = {
    "fact": fact,
    "cloze": cloze,
    "dict": dictionary,
    "arith": arithmetic,
    "know": knowledge,
    "read": reading,
}
"""Example generator by short task name."""
