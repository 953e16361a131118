"""The methods that are installed or given by file, described by a worker: the host imports no plugin."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mergebench_core.errors import PluginError, unknown_name
from mergebench_core.plugins import PluginSource, file_source, installed_sources, source_sha256
from mergebench_core.worker.description import MethodDescription
from mergebench_core.worker.host import MethodWorker


@dataclass(frozen=True, kw_only=True)
class CatalogMethod:
    """A method that can be run: what it says of itself, and where its source is."""

    description: MethodDescription
    source: PluginSource
    source_sha256: str


def load_catalog(plugin: Path | None = None) -> dict[str, CatalogMethod]:
    """Return all methods by name: bundled, installed, and those of the file `plugin`.

    Raises:
        InputError: no such file.
        PluginError: a plugin that the strict loader refuses.
    """
    sources = [*installed_sources(), *([file_source(plugin)] if plugin else [])]
    by_path = {str(source.path): source for source in sources}
    with (
        tempfile.TemporaryDirectory(prefix="mergebench-catalog-") as folder,
        MethodWorker(num_threads=1, log_file=Path(folder) / "worker.log") as worker,
    ):
        descriptions = worker.load(sources)
    if strays := [found.name for found in descriptions if found.plugin_path not in by_path]:
        raise PluginError(f"method '{strays[0]}' comes from a file that is no known plugin")
    return {found.name: _entry(found, by_path[found.plugin_path]) for found in descriptions}


def _entry(description: MethodDescription, source: PluginSource) -> CatalogMethod:
    return CatalogMethod(description=description, source=source, source_sha256=source_sha256(source))


def find_method(catalog: Mapping[str, CatalogMethod], name: str) -> CatalogMethod:
    """Return the method called `name`.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if name not in catalog:
        raise unknown_name("method", name, catalog, "`mergebench methods` lists them; --plugin adds a file.")
    return catalog[name]
