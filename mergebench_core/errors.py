"""One error family. A message says what went wrong, where, and what to do about it, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MergebenchError(Exception):
    """Anything a user can mend. The command line prints its text and exits with `exit_code`."""

    exit_code = 2


class InputError(MergebenchError):
    """Wrong usage or input: an unknown name, a bad file, a setting out of range."""


class PluginError(InputError):
    """A plugin that cannot be loaded or breaks the contract of the hook."""


class CheckpointError(InputError):
    """A checkpoint that cannot be read or does not fit the base model."""


class StoreError(MergebenchError):
    """Records or the database cannot be read or written."""


class IsolationError(MergebenchError):
    """A sandbox cannot be made, or the machine's is weaker than was demanded."""


class EngineError(MergebenchError):
    """An engine or a judge failed, whatever the method is: nothing is recorded, and the same command goes on."""

    exit_code = 1


class RunError(MergebenchError):
    """A run started and failed; a record with the reason has been written."""

    exit_code = 1


class ProtocolError(RunError):
    """The worker sent something that the protocol does not allow, or ended early."""


class BudgetError(RunError):
    """A method asked for more samples or validations than the track allows, or used more time, memory or disk."""


class MethodError(RunError):
    """A method raised, or the worker that ran it ended early."""


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str) -> InputError:
    """Return the error for a name that is not among `known`, with the nearest names as a hint."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names) or 'none'}."
    return InputError(f"unknown {kind} '{name}': {hint} {remedy}")
