"""Goes into the child around a solution: one time limit per call, and its answer reduced to what is compared.

The source of this file is put before every solution, so it needs nothing but the standard library. It runs in the
solution's own process and the host trusts nothing of it: it only gives a plain form to values that a solution
computed by itself, and no expected value is near.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

EXPIRED = "expired"
"""Stands for the type of an answer that did not come in time."""
LARGE = 10_000
"""Texts, lists and tuples longer than this are told by their hash, for some problems have answers of gigabytes.

They are right if equal: no tolerance applies to a hash. No problem needs one there.
"""

Call = tuple[float, str, object]
"""What one call gives: seconds, name of the value's type, reduced value."""

_SCALARS = frozenset({type(None), bool, int, float, complex, str})
_COLLECTIONS: tuple[Any, ...] = (list, tuple, set, frozenset)
_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.items()))


class Expired(Exception):
    """A call took too long. A solution may catch it, as it may under EvalPlus."""


def wrap(code: str, entry_point: str, form: str, limits_s: Sequence[float]) -> Callable[..., Call]:
    """Load a solution and return a function that calls it, to be called once per limit.

    Args:
        form: What is compared: `value`, `set`, `not_none` or `nothing`.
        limits_s: Time limit of each call, in order. After the first that is exceeded no call is made any more.
    """
    namespace: dict[str, Any] = {}
    exec(compile(code, "<solution>", "exec", dont_inherit=True), namespace)  # else our flags mend its annotations
    function = namespace[entry_point]
    limits = list(reversed(limits_s))
    signal.signal(signal.SIGALRM, expire)

    def call(*arguments: object) -> Call:
        started = time.perf_counter()
        try:
            value = limited(function, arguments, limits.pop()) if limits else expire()
        except Expired:
            limits.clear()
            return time.perf_counter() - started, EXPIRED, None
        return time.perf_counter() - started, type(value).__name__, reduce(value, form)

    return call


def limited(function: Callable[..., object], arguments: Sequence[object], limit_s: float) -> object:
    """Call a function; raise `Expired` in it when its time is over."""
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def expire(*_signal: object) -> NoReturn:
    """Handle the alarm."""
    raise Expired


def reduce(value: Any, form: str) -> object:
    """Return what is compared of a value: builtins that are equal to what the value is equal to.

    Raises:
        ValueError: the value is equal to no such thing.
    """
    if form == "nothing":
        return None
    if form == "not_none":
        return value if isinstance(value, bool) else value is not None
    if form == "set":
        return plain(value if isinstance(value, (list, tuple, set, frozenset, dict, str)) else set(value))
    if isinstance(value, (str, list, tuple)) and len(value) > LARGE:
        return fingerprint(value)
    return plain(value)


def plain(value: Any) -> object:
    """Return an equal value of builtin types only, so that a counter, say, is compared as the dict it is.

    Raises:
        ValueError: there is none.
    """
    if type(value) in _SCALARS:
        return value
    for kind in _COLLECTIONS:
        if isinstance(value, kind):
            return kind([plain(item) for item in value])
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, _VIEWS):
        return {plain(item) for item in value}
    return number(value)


def number(value: Any) -> object:
    """Return the builtin number that a fraction, a decimal, a member of an enumeration or the like is equal to.

    Raises:
        ValueError: there is none.
    """
    for kind in (int, float, complex):
        try:
            if kind(value) == value:
                return kind(value)
        except (TypeError, ValueError, OverflowError):
            continue
    raise ValueError("not a plain value")


def fingerprint(value: Any) -> tuple[str, int, int]:
    """Return builtin type, length and hash of a large value; the same for equal values in every child.

    Raises:
        RuntimeError: hashes differ from child to child here.
    """
    if sys.flags.hash_randomization:
        raise RuntimeError("large answers need PYTHONHASHSEED=0")
    kind = next(kind for kind in (str, list, tuple) if isinstance(value, kind))
    return kind.__name__, len(value), hash(frozen(value))


def frozen(value: Any) -> object:
    """Return a hashable stand-in; those of equal values are equal."""
    if isinstance(value, (list, tuple)):
        kinds = set(map(type, value))
        is_ready = kinds <= {str} or (kinds <= _SCALARS and -1 not in value)
        items = tuple(value) if is_ready else tuple(map(frozen, value))
        return ("list", items) if isinstance(value, list) else items
    if isinstance(value, (set, frozenset)):
        return frozenset(map(frozen, value))
    if isinstance(value, dict):
        return "dict", frozenset((frozen(key), frozen(item)) for key, item in value.items())
    return "minus one" if value == -1 else value  # Python gives -1 the hash of -2
