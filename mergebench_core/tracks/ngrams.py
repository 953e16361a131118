"""Keys of items as 64-bit hashes in arrays, so that hundred thousands of items are compared in little memory."""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import bool_, uint32, uint64
    from numpy.typing import NDArray

_FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that multiplying by it loses nothing modulo 2**64."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What the items of one set could share: one hash per key, with the number of its item."""

    hashes: NDArray[uint64]
    """Shape (number of keys,); one item can have many, and have one repeatedly."""
    items: NDArray[uint32]
    """Same shape."""

    def within(self, hashes: NDArray[uint64]) -> Keys:
        """Return the keys that are among `hashes`, which are sorted."""
        is_among = _is_among(self.hashes, hashes)
        return Keys(hashes=self.hashes[is_among], items=self.items[is_among])


def keys_of(texts: Sequence[str | None]) -> Keys:
    """Return one key per text, for the whole of it; none for an empty text and for None."""
    import numpy

    numbers = [number for number, text in enumerate(texts) if text]
    digests = b"".join(
        hashlib.blake2b((texts[number] or "").encode(), digest_size=8).digest() for number in numbers
    )
    return Keys(hashes=numpy.frombuffer(digests, numpy.uint64), items=numpy.array(numbers, numpy.uint32))


def vocabulary() -> Callable[[str], int]:
    """Return a function that numbers words in the order in which it first sees them."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    return numbers.__getitem__


class GramBuilder:
    """Collects the texts of one set and gives the keys of their n-grams of words."""

    def __init__(self, number_of: Callable[[str], int]) -> None:
        """Start with nothing; all sets that are compared share one vocabulary."""
        self._number_of = number_of
        self._words = array("I")
        self._lengths = array("I")
        self._items = array("I")

    def add(self, item: int, words: Sequence[str]) -> None:
        """Add a text of an item; n-grams never reach from one text into the next."""
        self._words.extend(map(self._number_of, words))
        self._lengths.append(len(words))
        self._items.append(item)

    def keys(self, num_words: int) -> Keys:
        """Return a key for every `num_words` words in a row."""
        import numpy

        lengths = numpy.frombuffer(self._lengths, numpy.uint32).astype(numpy.int64)
        num_starts = numpy.maximum(lengths - num_words + 1, 0)
        first = numpy.cumsum(lengths) - lengths
        before = numpy.cumsum(num_starts) - num_starts
        starts = numpy.arange(num_starts.sum()) + numpy.repeat(first - before, num_starts)
        values = _scattered(numpy.frombuffer(self._words, numpy.uint32))
        hashes = numpy.zeros(len(starts), numpy.uint64)
        for offset in range(num_words):
            hashes *= numpy.uint64(_FACTOR)
            hashes += values[starts + offset]
        items = numpy.repeat(numpy.frombuffer(self._items, numpy.uint32), num_starts)
        return Keys(hashes=hashes, items=items)


def shared_hashes(sets: Sequence[Keys]) -> NDArray[uint64]:
    """Return the hashes that occur in two sets or more, sorted."""
    import numpy

    hashes = numpy.sort(numpy.concatenate([_distinct(keys.hashes) for keys in sets]))
    return _distinct(hashes[1:][hashes[1:] == hashes[:-1]])


def common_hashes(first: Keys, second: Keys) -> NDArray[uint64]:
    """Return the hashes that occur in both sets, sorted."""
    fewer, more = sorted((_distinct(first.hashes), _distinct(second.hashes)), key=len)
    return fewer[_is_among(fewer, more)]


def _distinct(hashes: NDArray[uint64]) -> NDArray[uint64]:
    """Return the distinct hashes, sorted; numpy.unique takes three times the memory."""
    import numpy

    ordered = numpy.sort(hashes)
    is_first = numpy.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first]


def _is_among(hashes: NDArray[uint64], ordered: NDArray[uint64]) -> NDArray[bool_]:
    import numpy

    if not len(ordered):
        return numpy.zeros(len(hashes), numpy.bool_)
    places = numpy.minimum(numpy.searchsorted(ordered, hashes), len(ordered) - 1)
    return numpy.equal(ordered[places], hashes)


def _scattered(numbers: NDArray[uint32]) -> NDArray[uint64]:
    """Return a well mixed 64-bit value for each number, different ones for different numbers (splitmix64)."""
    import numpy

    mixed = (numbers.astype(numpy.uint64) + numpy.uint64(1)) * numpy.uint64(_FACTOR)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> numpy.uint64(shift)
        mixed *= numpy.uint64(factor)
    return mixed ^ (mixed >> numpy.uint64(31))
