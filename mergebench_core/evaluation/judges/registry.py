"""Finding judges: plugins of installed packages alone, since a judge decides scores in the host's process.

A file that somebody submits is never asked: judges have an entry point group of their own, and the loader of
methods does not know their hook.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

import pluggy

from mergebench_core import hookspecs
from mergebench_core.errors import PluginError, unknown_name
from mergebench_core.evaluation.judges.factory import NEEDS, JudgeFactory
from mergebench_core.hub import split_id

GROUP = "mergebench.judges"
"""Entry point group of judge plugins; each entry names a module."""
NAME = re.compile(r"[a-z][a-z0-9_]*")


def list_judges() -> list[JudgeFactory]:
    """Return the judges of all installed packages, by name. Imports their modules, and loads no model.

    Raises:
        PluginError: a plugin cannot be imported, misspells the hook, registers nothing or something that is no
            factory of judges, or takes a name that another plugin has.
    """
    return _judges(_points())


def bundled_judges() -> list[JudgeFactory]:
    """Return the judges that come with mergebench, by name.

    Raises:
        PluginError: as of `list_judges`.
    """
    return _judges([point for point in _points() if point.dist is not None and point.dist.name == "mergebench"])


def _points() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=_label)


def _judges(points: Iterable[EntryPoint]) -> list[JudgeFactory]:
    judges: dict[str, JudgeFactory] = {}
    owners: dict[str, str] = {}
    for point in points:
        for factory in _registered(point):
            if factory.name in judges:
                raise PluginError(
                    f"{_label(point)} registers judge '{factory.name}', which {owners[factory.name]} has "
                    "registered already; uninstall one of them"
                )
            judges[factory.name], owners[factory.name] = factory, _label(point)
    return [judges[name] for name in sorted(judges)]


def find_judge(name: str) -> JudgeFactory:
    """Return the factory of the judge `name`.

    Raises:
        InputError: no such judge.
        PluginError: as of `list_judges`.
    """
    judges = {factory.name: factory for factory in list_judges()}
    if name not in judges:
        raise unknown_name("judge", name, judges, "Judges come from installed packages only.")
    return judges[name]


def _label(point: EntryPoint) -> str:
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
    return f"judge plugin '{point.name}' ({point.value}) of {distribution}"


def _registered(point: EntryPoint) -> list[JudgeFactory]:
    """Import a plugin into a manager of its own and return what it registers."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs.JudgeHooks)
    registered: list[object] = []
    try:
        manager.register(point.load(), name=point.name)
        manager.check_pending()
        manager.hook.mergebench_register_judges(register=registered.append)
    except pluggy.PluginValidationError as error:
        reason = re.sub(r" in plugin <module .*?>", "", _one_line(error))
        raise PluginError(
            f"{_label(point)}: {reason}; known hook of judges: mergebench_register_judges(register)"
        ) from None
    except PluginError as error:
        raise PluginError(f"{_label(point)}: {error}") from None
    except Exception as error:
        raise PluginError(
            f"{_label(point)} fails: {type(error).__name__}: {_one_line(error)}; mend or uninstall it"
        ) from error
    if not registered:
        raise PluginError(
            f"{_label(point)} registers no judge; decorate mergebench_register_judges(register) with @hookimpl "
            "and call register(your_factory)"
        )
    return [_checked(found, point) for found in registered]


def _checked(found: object, point: EntryPoint) -> JudgeFactory:
    kind = found.__name__ if isinstance(found, type) else type(found).__name__
    missing = [name for name in ("name", "title", "revision", "needs", "repo", "open") if not hasattr(found, name)]
    if isinstance(found, type) or missing:
        lacking = f" (no `{missing[0]}`)" if missing else ""
        raise PluginError(f"{_label(point)} registers {kind}, which is no factory of judges{lacking}")
    factory: JudgeFactory = found  # type: ignore[assignment]
    if problem := _problem(factory):
        raise PluginError(f"{_label(point)} registers {kind}: {problem}")
    return factory


def _problem(factory: JudgeFactory) -> str | None:
    """Return what is wrong with what a factory says of itself."""
    if not isinstance(factory.name, str) or not NAME.fullmatch(factory.name):
        return f"its name is {factory.name!r}: use snake_case, such as 'my_judge'"
    for field in ("title", "revision"):
        value = getattr(factory, field)
        if not isinstance(value, str) or not value or _one_line(value) != value:
            return f"its {field} is {value!r}: give one line of text"
    if not isinstance(factory.needs, frozenset) or not factory.needs <= NEEDS:
        return f"its needs are {factory.needs!r}: give a frozenset of {sorted(NEEDS)}, or an empty one"
    if factory.repo is not None and (not isinstance(factory.repo, str) or split_id(factory.repo) is None):
        return f"its repo is {factory.repo!r}: give owner/name, or None"
    if not callable(factory.open):
        return "its `open` is no method"
    return None


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
