"""The Hugging Face Hub: repositories fetched through the local cache, models pushed; errors in one line."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mergebench_core.errors import CheckpointError, InputError, MergebenchError, RunError
from mergebench_core.hub_cache import absent, is_listed, missing_files, remove_cut_off, snapshot
from mergebench_core.hub_cache import cached as cached
from mergebench_core.hub_cache import is_fetched as is_fetched

SECONDS_BETWEEN_LINES = 2.0
"""Progress is told this often at most."""
Progress = Callable[[str], None]
RepoKind = Literal["model", "dataset"]
SPARE_BYTES = 2**30
"""Left free on the disk beyond what is fetched."""
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@(?P<revision>[\w./-]+))?")


def split_id(text: str) -> tuple[str, str | None] | None:
    """Return repository and revision (None: the default branch) of `org/name[@revision]`, None for other texts."""
    match = HUB_ID.fullmatch(text)
    return (match["repo"], match["revision"]) if match else None


@dataclass(frozen=True, kw_only=True)
class RepoFile:
    """One file of a repository, as the Hub lists it."""

    name: str
    num_bytes: int
    sha256: str | None
    """Of large files; None for those that are kept in git."""
    blob_id: str | None
    """Git's id of files that are kept in git; None for large ones."""


class RevisionError(CheckpointError):
    """The Hub has no such revision, or has it no more."""

    def __init__(self, what: str, remedy: str = "leave @revision out or give a branch, tag or commit") -> None:
        super().__init__(f"{what}: there is no such revision; {remedy}")
        self.what = what


def fetch(repo: str, revision: str | None, progress: Progress) -> tuple[Path, str]:
    """Return the folder of a model in the local cache, fetched if need be, and its commit.

    `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are respected. Whole files are kept; a file that was
    cut off starts anew. A commit that is here whole is not asked for. Offline, what is here is taken for the whole
    unless the cache knows that files are missing.

    Raises:
        RevisionError: no such revision.
        CheckpointError: no such repository or no right to it, no network, no room.
    """
    remove_cut_off(repo)
    if revision and COMMIT.fullmatch(revision) and (found := cached(repo, revision)):
        return found, revision
    name = _name(repo, revision)
    progress(f"fetching {name}")
    check_room(f"model {name}", missing_bytes(repo, revision))
    lacking = missing_files(repo, revision) if is_offline() else []
    with one_line(f"model {name}, {_some(lacking)}" if lacking else f"model {name}", CheckpointError), quiet():
        folder = Path(snapshot(repo, revision, tqdm_class=_bar_class(name, progress)))
        _check_whole(repo, folder)
    return folder, folder.name


def _name(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo


def _check_whole(repo: str, folder: Path) -> None:
    """Compare a model with the Hub if the cache has no list of its files: what fetching returned may be a part."""
    if is_offline() or is_listed(repo, folder.name):
        return
    _, files = repo_files("model", repo, folder.name)
    if lacking := absent(folder, [file.name for file in files]):
        raise CheckpointError(f"model {repo}: the Hub did not give {_some(lacking)}; try again later")


def _some(names: Sequence[str]) -> str:
    """Return the first of several names, and how many more there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def missing_bytes(repo: str, revision: str | None) -> int:
    """Return the bytes of a model that are not in the local cache yet; 0 offline, where nothing is fetched.

    Raises:
        RevisionError: no such revision.
        CheckpointError: no such repository, no right to it or no network, and it is not here whole.
    """
    from huggingface_hub.errors import DryRunError

    if is_offline():
        return 0
    with one_line(f"model {_name(repo, revision)}", CheckpointError), quiet():
        try:
            files = snapshot(repo, revision, tqdm_class=_bar_class(repo, lambda line: None), dry_run=True)
        except DryRunError:
            if cached(repo, revision) is None:
                raise
            return 0
    return sum(file.file_size or 0 for file in files if file.will_download)


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids asking the Hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def repo_files(kind: RepoKind, repo: str, revision: str | None = None) -> tuple[str, list[RepoFile]]:
    """Return the commit of a repository and its files.

    Raises:
        InputError: no such repository or revision, no right to it, no network.
    """
    from huggingface_hub import HfApi

    with one_line(f"{kind} {repo}", InputError):
        info: Any = HfApi().repo_info(repo, repo_type=kind, revision=revision, files_metadata=True)
    files = [
        RepoFile(
            name=file.rfilename,
            num_bytes=file.size or 0,
            sha256=file.lfs.sha256 if file.lfs else None,
            blob_id=None if file.lfs else file.blob_id,
        )
        for file in info.siblings or []
    ]
    return str(info.sha), files


def commit_of(kind: RepoKind, repo: str) -> str:
    """Return the latest commit of a repository.

    Raises:
        InputError: no such repository, no right to it, no network.
    """
    from huggingface_hub import HfApi

    with one_line(f"{kind} {repo}", InputError):
        return str(HfApi().repo_info(repo, repo_type=kind).sha)


def check_access(kind: RepoKind, repo: str, revision: str | None) -> None:
    """Check that files of a repository can be read at a revision.

    Raises:
        HfHubHTTPError: what the Hub says; `one_line` makes it readable.
    """
    from huggingface_hub import HfApi

    HfApi().repo_info(repo, repo_type=kind, revision=revision)
    HfApi().auth_check(repo, repo_type=kind)


def check_room(what: str, num_bytes: int) -> None:
    """Check that the disk of the local cache has room for what is to be fetched.

    Raises:
        CheckpointError: it has not.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if num_bytes and num_bytes + SPARE_BYTES > free:
        raise CheckpointError(
            f"{what}: {num_bytes / 2**30:.1f} GiB to fetch and {free / 2**30:.1f} GiB free in {folder}; "
            "free some room, or set HF_HOME to another disk"
        )


def check_push(repo: str) -> None:
    """Check before a long merge that its result can be pushed.

    Raises:
        InputError: not the name of a repository, or no valid token.
    """
    from huggingface_hub import HfApi

    if HUB_ID.fullmatch(repo) is None or "@" in repo:
        raise InputError(f"--push {repo}: give the name of a repository on the Hub, owner/name")
    with one_line(f"--push {repo}", InputError):
        HfApi().whoami()


def push(folder: Path, repo: str, *, is_private: bool, message: str) -> str:
    """Upload a folder to a model repository, made if need be, and return its address.

    Raises:
        RunError: it was refused or the network failed; the folder is as it was.
    """
    from huggingface_hub import HfApi

    with one_line(f"--push {repo} (the merged model is in {folder}; the same command tries again)", RunError):
        api = HfApi()
        url = api.create_repo(repo, private=is_private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    return str(url)


def _bar_class(name: str, progress: Progress) -> type[Any]:
    """Return a progress bar that draws nothing but tells percents of the bytes."""
    from tqdm.auto import tqdm

    told_s = time.monotonic()

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread that looks after bars

        def __init__(self, *args: Any, name: str | None = None, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": False, "file": io.StringIO()})

        def display(self, *args: Any, **settings: Any) -> None:
            nonlocal told_s
            if self.unit == "B" and self.total and time.monotonic() - told_s > SECONDS_BETWEEN_LINES:
                told_s = time.monotonic()
                progress(f"fetching {name}: {100 * self.n // self.total:.0f}% of {self.total / 2**20:.0f} MiB")

    return Bar


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings of the Hub's libraries, such as of each retry, off the screen inside the block."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def one_line(what: str, kind: type[MergebenchError]) -> Iterator[None]:
    """Turn what the Hub's libraries raise inside the block into one line of that kind, or of RevisionError."""
    from huggingface_hub import errors

    known = (errors.HFValidationError, errors.HfHubHTTPError, OSError, UnicodeEncodeError)
    try:
        yield
    except Exception as error:
        if not isinstance(error, known) and not _is_network(error):
            raise
        if any(isinstance(found, errors.RevisionNotFoundError) for found in (error, error.__cause__)):
            raise RevisionError(what) from None
        raise kind(f"{what}: {problem_of(error)}") from None


def _is_network(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "requests", "urllib3")


def problem_of(error: BaseException) -> str:
    """Return what went wrong with the Hub and what to do about it."""
    from huggingface_hub import constants, errors

    chain = [error, *([error.__cause__] if error.__cause__ else [])]
    codes = [found.response.status_code for found in chain if isinstance(found, errors.HfHubHTTPError)]

    def has(kind: type[BaseException]) -> bool:
        return any(isinstance(found, kind) for found in chain)

    gated = [found for found in chain if isinstance(found, errors.GatedRepoError)]
    login = "log in with `hf auth login` or set HF_TOKEN"
    if is_offline() or has(errors.OfflineModeIsEnabled):
        return "not in the local cache, and HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE"
    if has(errors.LocalTokenNotFoundError):
        return f"no token; {login}"
    if gated:
        return f"its authors want you to accept terms first: do so at {_address(gated[0])}, then {login}"
    if has(errors.RevisionNotFoundError):
        return "there is no such revision; leave @revision out or give a branch, tag or commit"
    if has(errors.RepositoryNotFoundError):
        return f"no such folder here and no such repository at {constants.ENDPOINT}; if it is private, {login}"
    if has(errors.HFValidationError):
        return "no valid name of a repository; give owner/name"
    if has(UnicodeEncodeError):
        return "the token holds a character that no token has; check HF_TOKEN"
    if 401 in codes or 403 in codes:
        return f"the Hub refuses the token; check HF_TOKEN or {login}"
    if codes:
        return f"the Hub at {constants.ENDPOINT} answered with status {codes[0]}; try again later"
    if isinstance(error, errors.LocalEntryNotFoundError) or any(map(_is_network, chain)):
        return (
            f"the Hub at {constants.ENDPOINT} cannot be reached and the cache lacks it or a part of it; "
            "check the network"
        )
    return " ".join(str(error).split())[:300]


def _address(error: Any) -> str:
    """Return where a repository that an error is about is shown."""
    from huggingface_hub import constants

    folder = f"{error.repo_type}s/" if error.repo_type in ("dataset", "space") else ""
    return f"{constants.ENDPOINT}/{folder}{error.repo_id}" if error.repo_id else constants.ENDPOINT
