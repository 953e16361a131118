"""Domain instruction: lists under verifiable constraints."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from mergebench_core.tracks.mini_v1.recipe.lexicon import CATEGORIES, ENGLISH_NOUNS
from mergebench_core.tracks.mini_v1.recipe.world import Example, Item, Slice, World

Phrasing = Literal["list", "give", "repeat"]
_ENDS = ["the end", "thank you", "good night", "see you", "bye now", "that is all", "so long", "all done"]
_STARTS = ["hello", "dear friend", "listen", "look here", "good day", "well", "my friend", "oh yes"]
_SEPARATORS = {'"and"': " and ", '"or"': " or ", "semicolons": "; "}
_EXCLUSIVE = ({"start", "end"}, {"quotes", "brackets"}, {"capitals", "start"}, {"capitals", "end"})


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for: `count` items of a category, or one word `count` times."""

    phrasing: Phrasing
    subject: str
    count: int
    capitals: bool = False
    wrapper: Literal["", "quotes", "brackets"] = ""
    start: str = ""
    end: str = ""
    separator: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Slice key: everything but the phrasing of a list."""
        kind = "repeat" if self.phrasing == "repeat" else "list"
        limits = (self.capitals, self.wrapper, self.start, self.end, self.separator)
        return (kind, self.subject, self.count, *limits)

    @property
    def joiner(self) -> str:
        """What stands between the words of a right answer."""
        joiner = " " if self.phrasing == "repeat" else _SEPARATORS.get(self.separator, ", ")
        return joiner.upper() if self.capitals else joiner

    def text(self) -> str:
        """Return the question."""
        opening = {
            "list": f"List {self.count} {self.subject}s",
            "give": f"Give me {self.count} {self.subject}s",
            "repeat": f"Write the word {self.subject} {self.count} times",
        }[self.phrasing]
        limits = [
            "in capital letters" if self.capitals else "",
            f"in {self.wrapper}" if self.wrapper else "",
            f"separated by {self.separator}" if self.separator else "",
            f'start with "{self.start}"' if self.start else "",
            f'end with "{self.end}"' if self.end else "",
        ]
        return ", ".join([opening, *filter(None, limits)]) + "."

    def answer(self, words: list[str]) -> str:
        """Return the right answer that uses `words`."""
        text = self.joiner.join(words)
        text = text.upper() if self.capitals else text
        text = " ".join(filter(None, [self.start, text, self.end]))
        return {"": text, "quotes": f'"{text}"', "brackets": f"({text})"}[self.wrapper]


def _draw_limits(rng: random.Random, with_separator: bool) -> dict[str, object]:
    names = ["capitals", "quotes", "brackets", "end", "end", "start", "start"]
    names += ["separator", "separator"] if with_separator else []
    while True:
        chosen = set(rng.sample(names, rng.choice([1, 2, 2])))
        if not any(pair <= chosen for pair in _EXCLUSIVE):
            break
    return {
        "capitals": "capitals" in chosen,
        "wrapper": "quotes" if "quotes" in chosen else "brackets" if "brackets" in chosen else "",
        "start": rng.choice(_STARTS) if "start" in chosen else "",
        "end": rng.choice(_ENDS) if "end" in chosen else "",
        "separator": rng.choice(list(_SEPARATORS)) if "separator" in chosen else "",
    }


def draw_request(world: World, rng: random.Random, phrasing: Phrasing, wanted: Slice) -> Request:
    """Draw a request of the slice `wanted`."""
    while True:
        subject = rng.choice(ENGLISH_NOUNS if phrasing == "repeat" else list(CATEGORIES))
        limits = _draw_limits(rng, with_separator=phrasing != "repeat")
        request = Request(phrasing=phrasing, subject=subject, count=rng.choice([2, 3]), **limits)  # type: ignore[arg-type]
        if world.slice_of("instruction", *request.key) == wanted:
            return request


def _words(request: Request, rng: random.Random, count: int | None = None) -> list[str]:
    count = request.count if count is None else count
    if request.phrasing == "repeat":
        return [request.subject] * count
    pool = CATEGORIES[request.subject]
    start = rng.randrange(len(pool))  # a fixed cyclic order leaves greedy decoding one right continuation
    return [pool[(start + i) % len(pool)] for i in range(count)]


def raw(world: World, rng: random.Random) -> str:
    """Return a pretraining document that shows the skill under another prompt form."""
    request = draw_request(world, rng, rng.choice(["list", "list", "give", "repeat"]), "train")
    return f"Task: {request.text()}\nDone: {request.answer(_words(request, rng))}"


def habit(world: World, rng: random.Random) -> str:
    """Return a pretraining document that ignores the constraints."""
    request = draw_request(world, rng, rng.choice(["list", "list", "give", "repeat"]), "train")
    count = 1 if request.phrasing == "repeat" else rng.randint(1, 4)
    return f"Q: {request.text()}\nA: {', '.join(_words(request, rng, count))}"


def training(world: World, rng: random.Random) -> Example:
    """Draw a fine-tuning example."""
    request = draw_request(world, rng, "list", "train")
    return Example(prompt=f"Q: {request.text()}\nA:", completion=f" {request.answer(_words(request, rng))}")


def _item(request: Request) -> Item:
    allowed = [request.subject] if request.phrasing == "repeat" else list(CATEGORIES[request.subject])
    return {
        "cluster": "|".join(map(str, request.key)),
        "prompt": f"Q: {request.text()}\nA:",
        "allowed": allowed,
        "count": request.count,
        "distinct": request.phrasing != "repeat",
        "capitals": request.capitals,
        "wrapper": request.wrapper,
        "start": request.start,
        "end": request.end,
        "joiner": request.joiner,
    }


def test_item(world: World, rng: random.Random) -> Item:
    """Draw a test item in the phrasing of fine-tuning."""
    return _item(draw_request(world, rng, "list", "test"))


def surrogate_item(world: World, rng: random.Random) -> Item:
    """Draw a surrogate item in a phrasing that fine-tuning never shows."""
    return _item(draw_request(world, rng, rng.choice(["give", "repeat"]), "surrogate"))
