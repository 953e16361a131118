"""Prepares data once per home: fetches what the sets are made of, adapts it, checks and audits it.

<home>/tracks/mergebench-v1/files/            fetched files
                            revisions.json    commits that were resolved where no lock pins them
                            <key>/items/*.jsonl  <key>/calibration/*.jsonl  <key>/overlaps-*.json
                            <key>/digests.json    what the files were when they were made
The key is a digest of commits and of the code that adapts rows, so that a change of either prepares anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergebench_core import hub
from mergebench_core.errors import InputError
from mergebench_core.home import changed_note, read_note, write_atomic
from mergebench_core.tracks.audit import AuditItem, AuditPurpose, AuditReport, audit_item, audit_items
from mergebench_core.tracks.digests import file_digest
from mergebench_core.tracks.mergebench_v1.calibration import CALIBRATION, CalibrationSet
from mergebench_core.tracks.mergebench_v1.item_sets import FileSource, HubSource, Item, ItemSet, Row, Source
from mergebench_core.tracks.mergebench_v1.lock import Lock, telling_who_pins
from mergebench_core.tracks.mergebench_v1.published_files import fetch_file, name_of, read_rows, write_items
from mergebench_core.tracks.mergebench_v1.sets.general import BY_CONSTRUCTION
from mergebench_core.tracks.mergebench_v1.suite import ITEM_SETS, item_sets, tasks
from mergebench_core.tracks.world import Protocol

FOLDER = Path(__file__).parent
ADAPTING = (
    "sets/*.py",
    "tasks/*.py",
    "../../training/prompt_format.py",
    "calibration.py",
    "item_sets.py",
    "preparation.py",
    "../audit*.py",
    "../ngrams.py",
)


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Items and calibration samples on this machine."""

    folder: Path
    digests: Mapping[str, str]
    """sha256 by path below the folder."""
    revisions: Mapping[str, str]
    """Commit by data set repository; sha256 by file."""
    overlaps: Mapping[str, int]

    @property
    def items_folder(self) -> Path:
        return self.folder / "items"

    @property
    def calibration_folder(self) -> Path:
        return self.folder / "calibration"


def sources() -> list[Source]:
    """Return every source of items and calibration samples, each once."""
    found = [source for item_set in ITEM_SETS.values() for source in item_set.sources]
    found += [calibration.source for calibration in CALIBRATION.values()]
    return list(dict.fromkeys(found))


def data_repos() -> list[str]:
    """Return the data set repositories on the Hub."""
    return list(dict.fromkeys(source.repo for source in sources() if isinstance(source, HubSource)))


def prepare_data(home: Path, lock: Lock, progress: hub.Progress, protocol: Protocol = "standard") -> PreparedData:
    """Return the prepared data of a protocol; what is there as it was made is not made again.

    Raises:
        InputError: data cannot be fetched, or are not what the track expects.
        StoreError: no room for them.
    """
    room = home / "tracks" / "mergebench-v1"
    note = room / "revisions.json"
    revisions = resolve(note, data_repos(), lock, progress)

    def rows_of(source: Source) -> list[Row]:
        with telling_who_pins(source.repo, lock, note):
            return read_rows(source, revisions.get(source.repo), room / "files")

    folder = room / _key(revisions)
    targets: dict[str, ItemSet | CalibrationSet] = {
        **{f"items/{name}.jsonl": item_set for name, item_set in item_sets(protocol).items()},
        **{f"calibration/{domain}.jsonl": calibration for domain, calibration in CALIBRATION.items()},
    }
    digests = {name: _prepare(folder, name, target, rows_of, progress) for name, target in targets.items()}
    files = {
        name_of(source): hashlib.sha256(fetch_file(source, room / "files")).hexdigest()
        for source in sources()
        if isinstance(source, FileSource)
    }
    return PreparedData(
        folder=folder,
        digests=digests,
        revisions=dict(revisions) | files,
        overlaps=_noted_overlaps(folder, protocol, digests, progress),
    )


def resolve(note: Path, repos: Iterable[str], lock: Lock, progress: hub.Progress) -> dict[str, str]:
    """Return a commit by repository: the lock's, else the noted one, else the latest, which is then noted."""
    noted, locked = read_note(note), lock.revisions()
    found: dict[str, str] = {}
    for repo in repos:
        if repo not in locked and repo not in noted:
            progress(f"resolving {repo}")
            commit = hub.commit_of("dataset", repo)
            with changed_note(note) as noted:
                noted.setdefault(repo, commit)  # another process may have been first
        found[repo] = locked.get(repo) or noted[repo]
    return found


def read_items(path: Path) -> list[Item]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def audit(folder: Path, protocol: Protocol, progress: hub.Progress) -> AuditReport:
    """Look for overlaps between all sets of a protocol's data, calibration samples included."""
    progress("auditing the data for overlaps")
    sets: dict[str, list[AuditItem]] = {
        name: [audit_item(item, purpose) for item in read_items(folder / "items" / f"{part}.jsonl")]
        for name, part, purpose in _audited(protocol)
    }
    for domain in CALIBRATION:
        rows = read_items(folder / "calibration" / f"{domain}.jsonl")
        sets[f"calibration_{domain}"] = [
            audit_item(row, "calibration", str(number)) for number, row in enumerate(rows)
        ]
    return audit_items(sets, by_construction=BY_CONSTRUCTION)


def _audited(protocol: Protocol) -> Iterator[tuple[str, str, AuditPurpose]]:
    """Yield name, item set and purpose of what is compared.

    A set that is tuned on and tested is there twice, the second time under the name of the surrogate task.
    """
    seen: set[str] = set()
    for task in tasks("full", protocol):  # test tasks first
        for part in task.part_names:
            if part in item_sets(protocol):
                yield (task.name if part in seen else part), part, task.purpose
                seen.add(part)


def _noted_overlaps(
    folder: Path, protocol: Protocol, digests: Mapping[str, str], progress: hub.Progress
) -> dict[str, int]:
    note = folder / f"overlaps-{protocol}.json"
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        if found["digests"] == digests:
            return dict(found["overlaps"])
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged
        pass
    overlaps = audit(folder, protocol, progress).to_counts()
    write_atomic(note, json.dumps({"digests": digests, "overlaps": overlaps}, indent=1, sort_keys=True) + "\n")
    return overlaps


def _key(revisions: Mapping[str, str]) -> str:
    paths = [path for pattern in ADAPTING for path in sorted(FOLDER.glob(pattern))]
    code = {f"{path.parent.name}/{path.name}": file_digest(path) for path in paths}
    text = json.dumps([dict(revisions), code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _prepare(
    folder: Path,
    name: str,
    target: ItemSet | CalibrationSet,
    rows_of: Callable[[Source], list[Row]],
    progress: hub.Progress,
) -> str:
    """Make a file, unless it is there as it was made, and return its digest."""
    path, note = folder / name, folder / "digests.json"
    if path.is_file() and (digest := file_digest(path)) == read_note(note).get(name):
        return digest
    progress(f"preparing {path.parent.name} {path.stem}")
    origins = target.sources if isinstance(target, ItemSet) else (target.source,)
    items = _adapted(target.adapt, [rows_of(source) for source in origins], path.stem)
    if isinstance(target, ItemSet):
        check_items(target, items)
    write_items(path, items)
    digest = file_digest(path)
    with changed_note(note) as noted:
        noted[name] = digest
    return digest


def _adapted(adapt: Callable[..., list[Item]], rows: list[list[Any]], name: str) -> list[Item]:
    try:
        return adapt(*rows)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"data of {name}: {reason}; the published data changed, update mergebench") from None


def check_items(item_set: ItemSet, items: list[Item]) -> None:
    """Check that a set has the items that the track expects.

    Raises:
        InputError: another number, or ids that are not unique texts.
    """
    if len(items) != item_set.num_items:
        raise InputError(
            f"data of {item_set.name}: {len(items)} items, the track says {item_set.num_items}; "
            "the published data changed, update mergebench"
        )
    ids = [item["id"] for item in items]
    if len(set(ids)) != len(ids) or not all(isinstance(one, str) for one in ids):
        raise InputError(f"data of {item_set.name}: ids are not unique texts; the published data changed")
