"""The methods that are installed or given by file, described by a worker: the host imports no plugin."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergebench_core.checkpoints.checkpoint import CHUNK_NUMEL
from mergebench_core.errors import PluginError, unknown_name
from mergebench_core.isolation.policy import MethodLimits
from mergebench_core.plugins import PluginSource, file_source, installed_sources, source_sha256
from mergebench_core.worker.description import MethodDescription
from mergebench_core.worker.host import Job, MethodWorker

DESCRIBING_S = 300.0
"""Time for importing all plugins."""


@dataclass(frozen=True, kw_only=True)
class CatalogMethod:
    """A method that can be run: what it says of itself, and where its source is."""

    description: MethodDescription
    sources: tuple[PluginSource, ...]
    """The plugin that registers it, the one that read it, those of the methods that it builds on, and what else
    these plugins need to load."""
    source_sha256: str

    @property
    def source(self) -> PluginSource:
        """The plugin that registers it."""
        return self.sources[0]


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
        MethodWorker(
            num_threads=1,
            log_file=Path(folder) / "worker.log",
            sources=sources,
            limits=MethodLimits(time_s=DESCRIBING_S),
        ) as worker,
    ):
        descriptions = worker.load(sources)
    for found in descriptions:
        if any(path not in by_path for path in _paths(found)):
            raise PluginError(f"method '{found.name}' comes from a file that is no known plugin")
    sources_of = {found.name: [by_path[path] for path in _paths(found)] for found in descriptions}
    return {found.name: _entry(found, sources_of, descriptions) for found in descriptions}


def _paths(description: MethodDescription) -> list[str]:
    return [description.plugin_path, *([description.reader_path] if description.reader_path else [])]


def _entry(
    description: MethodDescription,
    sources_of: Mapping[str, Sequence[PluginSource]],
    descriptions: Sequence[MethodDescription],
) -> CatalogMethod:
    names = [description.name, *description.builds_on]
    if missing := [name for name in names if name not in sources_of]:
        raise PluginError(f"method '{description.name}' builds on '{missing[0]}', which no plugin registers")
    own = dict.fromkeys(source for name in names for source in sources_of[name])
    digests = [source_sha256(source) for source in own]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return CatalogMethod(
        description=description, sources=_loadable(own, sources_of, descriptions), source_sha256=digest
    )


def _loadable(
    own: Iterable[PluginSource],
    sources_of: Mapping[str, Sequence[PluginSource]],
    descriptions: Sequence[MethodDescription],
) -> tuple[PluginSource, ...]:
    """Return the plugins, and those of whatever other methods in them build on: a plugin loads whole."""
    sources = dict.fromkeys(own)
    size = 0
    while len(sources) > size:
        size = len(sources)
        inside = [found for found in descriptions if sources_of[found.name][0] in sources]
        sources |= dict.fromkeys(
            source for found in inside for name in found.builds_on for source in sources_of.get(name, ())
        )
    return tuple(sources)


def open_method(
    worker: MethodWorker,
    method: CatalogMethod,
    *,
    base: Path,
    specialists: Mapping[str, Path],
    seed: int,
    num_threads: int,
    chunk_numel: int = CHUNK_NUMEL,
) -> None:
    """Let a worker load the method's plugins and open the models for it."""
    worker.load(method.sources)
    worker.open(
        Job(
            method=method.description.name,
            base=base,
            specialists=specialists,
            seed=seed,
            num_threads=num_threads,
            chunk_numel=chunk_numel,
        )
    )


def find_method(catalog: Mapping[str, CatalogMethod], name: str) -> CatalogMethod:
    """Return the method called `name`.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if name not in catalog:
        raise unknown_name("method", name, catalog, "`mergebench methods` lists them; --plugin adds a file.")
    return catalog[name]
