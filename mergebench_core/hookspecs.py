"""The hooks of mergebench. A plugin implements them with `hookimpl`; a hook has no default arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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


@hookspec
def mergebench_methods_of_file(path: Path, register: Callable[[MergingMethod], None]) -> None:
    """Register the methods that a file describes which is no Python file: what `--plugin recipe.yaml` names.

    Every installed plugin is asked. One that does not know files of this kind (told by the suffix) returns without
    a word; one that does calls `register(method)` once for each method, or raises `PluginError` saying in one line
    what is wrong with the file. A method's digest then covers the file and the plugin that read it.
    """


class JudgeHooks:
    """Hooks of judges. They are apart because judges decide scores in the host's process.

    Only installed packages implement them, in modules that their entry point group `mergebench.judges` names. A
    plugin of methods that does is refused.
    """

    @staticmethod
    @hookspec
    def mergebench_register_judges(register: Callable[[object], None]) -> None:
        """Register judges by calling `register(factory)` once for each.

        A factory (`JudgeFactory` of `mergebench_core.evaluation.judges.factory`) has `name`, `title`, `revision`,
        `needs`, `repo` and `open(settings)`, which returns the judge. Registering loads no model. Names are unique
        over all judges.
        """
