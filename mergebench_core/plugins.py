"""Finding and loading plugins, strictly: what is wrong with one is said, naming plugin, file and remedy.

Finding never imports plugin code, so the runner may do it; loading imports it and happens in workers only.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import pluggy

from mergebench_core import hookspecs
from mergebench_core.errors import InputError, PluginError
from mergebench_core.methods import MergingMethod, check_info, check_method

BUNDLED = "mergebench"


@dataclass(frozen=True, kw_only=True)
class PluginSource:
    """Where a plugin comes from: an installed module, a single file, or a file that another plugin reads."""

    name: str
    """Entry point name, or the file's name."""
    module: str | None
    """Importable module of an installed plugin; None for a file."""
    path: Path
    """The file that holds the hook implementation."""
    distribution: str
    """`<name> <version>` of the installed package, or `file`."""

    @property
    def needs_reader(self) -> bool:
        """Whether it is no Python, so that an installed plugin must make methods of it."""
        return self.module is None and self.path.suffix != ".py"

    @property
    def package_folder(self) -> Path:
        """What has to be readable to import it: the folder of its topmost package, or its file."""
        depth = (self.module or "").count(".") + (self.path.name == "__init__.py")
        return self.path.parents[depth - 1] if self.module and depth else self.path

    def to_dict(self) -> dict[str, str | None]:
        return {**asdict(self), "path": str(self.path)}

    @staticmethod
    def from_dict(values: dict[str, str | None]) -> PluginSource:
        return PluginSource(
            name=str(values["name"]),
            module=values["module"],
            path=Path(str(values["path"])),
            distribution=str(values["distribution"]),
        )


@dataclass(frozen=True, kw_only=True)
class LoadedMethod:
    """A registered method with the plugin that registered it."""

    method: MergingMethod
    source: PluginSource
    reader: PluginSource | None = None
    """The plugin that made it of a file that is no Python."""


def file_source(path: Path) -> PluginSource:
    """Return the source of a single file: a Python plugin, or what an installed plugin reads.

    Raises:
        InputError: no such file.
    """
    if not path.is_file():
        raise InputError(f"plugin {path}: no such file; give --plugin a .py file, or one that a plugin reads")
    return PluginSource(name=path.name, module=None, path=path.resolve(), distribution="file")


def installed_sources() -> list[PluginSource]:
    """Return the plugins of all installed packages (entry point group `mergebench`), bundled ones first."""
    found = [_entry_point_source(point) for point in entry_points(group=hookspecs.PROJECT)]
    return sorted(found, key=lambda source: (not source.distribution.startswith(f"{BUNDLED} "), source.name))


def _entry_point_source(point: EntryPoint) -> PluginSource:
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
    spec = _find_module(point.module)
    if spec is None or spec.origin is None:
        raise PluginError(
            f"plugin '{point.name}' of {distribution} names module '{point.module}', which is not there; "
            f"reinstall or uninstall {distribution.split()[0]}"
        )
    return PluginSource(name=point.name, module=point.module, path=Path(spec.origin), distribution=distribution)


def _find_module(name: str) -> ModuleSpec | None:
    """Find a module without importing the packages around it, as `importlib.util.find_spec` would."""
    package, *parts = name.split(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec


def source_sha256(source: PluginSource) -> str:
    """Return the digest of a plugin's source: its file, or its whole package if the file imports from it."""
    root, files = source.path.parent, [source.path]
    package, is_package = source.package_folder, source.path.name == "__init__.py"
    if package.is_dir() and (is_package or _imports_package(source.path, (source.module or "").split(".")[0])):
        root = package
        files = sorted(root.rglob("*.py"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _imports_package(path: Path, package: str) -> bool:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == package):
            return True
        if isinstance(node, ast.Import) and any(name.name.split(".")[0] == package for name in node.names):
            return True
    return False


def load_methods(sources: Sequence[PluginSource]) -> dict[str, LoadedMethod]:
    """Import plugins and return their methods by name. Runs foreign code: call it in a worker only.

    Raises:
        PluginError: a plugin fails on import, misspells the hook, registers nothing, breaks the contract of a
            method, or takes a name that another plugin has; a file that no plugin reads.
    """
    plugins = {source: _open_plugin(source) for source in sources if not source.needs_reader}
    methods: dict[str, LoadedMethod] = {}
    for source in sources:
        for method, reader in _registered_methods(source, plugins):
            _check_kind(method, source)
            if clash := methods.get(method.info.name):
                raise PluginError(
                    f"{_label(source)} registers method '{method.info.name}', which "
                    f"{_label(clash.source)} has registered already; rename one of them"
                )
            methods[method.info.name] = LoadedMethod(method=method, source=source, reader=reader)
    for loaded in methods.values():
        _bind_parts(loaded, methods)
        _check_contract(loaded)
    return methods


def _bind_parts(loaded: LoadedMethod, methods: dict[str, LoadedMethod]) -> None:
    """Give a method the methods that it builds on."""
    info = loaded.method.info
    if missing := [name for name in info.builds_on if name not in methods]:
        raise PluginError(
            f"{_label(loaded.source)}: method '{info.name}' builds on '{missing[0]}', which no plugin registers; "
            "install the plugin that has it"
        )
    loaded.method.parts = {name: methods[name].method for name in info.builds_on}


def _label(source: PluginSource) -> str:
    return f"plugin '{source.name}' ({source.path})"


def _check_kind(method: object, source: PluginSource) -> None:
    if not isinstance(method, MergingMethod):
        kind = method.__name__ if isinstance(method, type) else type(method).__name__
        raise PluginError(f"{_label(source)} registers {kind}, which is no MergingMethod object")
    try:
        check_info(method)
    except PluginError as error:
        raise PluginError(f"{_label(source)}: {error}") from None


def _check_contract(loaded: LoadedMethod) -> None:
    try:
        check_method(loaded.method)
    except PluginError as error:
        raise PluginError(f"{_label(loaded.source)}: {error}") from None


def _open_plugin(source: PluginSource) -> pluggy.PluginManager:
    """Import a plugin into a manager of its own, and check its hooks."""
    module = _import_plugin(source)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name=source.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        reason = re.sub(r" in plugin <module .*?>", "", _one_line(str(error)))
        raise PluginError(f"{_label(source)}: {reason}; {_hook_remedy()}") from None
    return manager


Registrations = list[tuple[MergingMethod, PluginSource | None]]
"""Methods, each with the plugin that read the file they stand in."""


def _registered_methods(
    source: PluginSource, plugins: Mapping[PluginSource, pluggy.PluginManager]
) -> Registrations:
    if source.needs_reader:
        return _methods_of_file(source, plugins)
    registered: list[MergingMethod] = []
    try:
        plugins[source].hook.mergebench_register_methods(register=registered.append)
    except PluginError as error:
        raise PluginError(f"{_label(source)}: {error}") from None
    except Exception as error:
        raise PluginError(f"{_label(source)} fails while registering: {_blame(error, source)}") from error
    if not registered and not plugins[source].hook.mergebench_methods_of_file.get_hookimpls():
        raise PluginError(
            f"{_label(source)} registers no method; decorate mergebench_register_methods(register) "
            "with @hookimpl and call register(YourMethod())"
        )
    return [(method, None) for method in registered]


def _methods_of_file(source: PluginSource, plugins: Mapping[PluginSource, pluggy.PluginManager]) -> Registrations:
    """Ask every plugin for the methods of a file that is no Python; one must know it."""
    found: Registrations = []
    for reader, plugin in plugins.items():
        read: list[MergingMethod] = []
        try:
            plugin.hook.mergebench_methods_of_file(path=source.path, register=read.append)
        except PluginError as error:
            raise PluginError(f"{_label(source)}: {error}") from None
        except Exception as error:
            raise PluginError(f"{_label(reader)} fails on {source.path}: {_blame(error, reader)}") from error
        found += [(method, reader) for method in read]
    if not found:
        kind = f"'{source.path.suffix}' files" if source.path.suffix else "files without suffix"
        raise PluginError(f"{_label(source)}: no installed plugin reads {kind}; give a .py file to --plugin")
    return found


def _hook_remedy() -> str:
    names = [name for name in vars(hookspecs) if name.startswith(f"{hookspecs.PROJECT}_")]
    signatures = [f"{name}({', '.join(inspect.signature(getattr(hookspecs, name)).parameters)})" for name in names]
    return f"known hooks: {', '.join(signatures)}"


def _import_plugin(source: PluginSource) -> ModuleType:
    try:
        if source.module is not None:
            return importlib.import_module(source.module)
        return _import_file(source.path)
    except PluginError as error:
        raise PluginError(f"{_label(source)}: {error}") from None
    except Exception as error:
        raise PluginError(f"{_label(source)} fails on import: {_blame(error, source)}") from error


def _import_file(path: Path) -> ModuleType:
    name = f"mergebench_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _blame(error: Exception, source: PluginSource) -> str:
    """Return type, text and the line of the plugin's file at which it happened."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    frame = error.__traceback__
    while frame is not None and not isinstance(error, SyntaxError):
        if Path(frame.tb_frame.f_code.co_filename) == source.path:
            line = frame.tb_lineno
        frame = frame.tb_next
    place = f" at line {line}" if line else ""
    return f"{type(error).__name__}: {_one_line(str(error))}{place}; mend the plugin or leave it out"


def _one_line(text: str) -> str:
    return " ".join(text.split())
