"""The hooks of mergebench. A plugin implements them with `hookimpl`; a hook has no default arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mergebench_core.methods import MergingMethod

PROJECT = "mergebench"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def mergebench_register_methods(register: Callable[[MergingMethod], None]) -> None:
    """Register merging methods by calling `register(method)` once for each.

    The hook only hands over objects; the runner picks one by `method.info.name` and calls it in a worker
    process of its own. Names are unique over all plugins.
    """
