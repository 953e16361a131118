"""The Hugging Face Hub: repositories fetched through the local cache, models pushed; errors in one line."""

from __future__ import annotations

import io
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from mergebench_core.errors import CheckpointError, InputError, MergebenchError, RunError

SECONDS_BETWEEN_LINES = 2.0
"""Progress is told this often at most."""
Progress = Callable[[str], None]
RepoKind = Literal["model", "dataset"]
SPARE_BYTES = 2**30
"""Left free on the disk beyond what is fetched."""
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@(?P<revision>[\w./-]+))?")
ALLOWED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer*",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "*.py",
    "LICENSE*",
)
IGNORED = ("*/*", "consolidated*")
"""Other formats of the same weights, which some repositories keep in folders or beside the shards."""


def split_id(text: str) -> tuple[str, str | None] | None:
    """Return repository and revision (None: the default branch) of `org/name[@revision]`, None for other texts."""
    match = HUB_ID.fullmatch(text)
    return (match["repo"], match["revision"]) if match else None


def is_fetched(name: str) -> bool:
    """Return whether a file of a model repository is among those that are fetched."""
    return any(fnmatch(name, one) for one in ALLOWED) and not any(fnmatch(name, one) for one in IGNORED)


@dataclass(frozen=True, kw_only=True)
class RepoFile:
    """One file of a repository, as the Hub lists it."""

    name: str
    num_bytes: int
    sha256: str | None
    """Of large files; None for those that are kept in git."""


def fetch(repo: str, revision: str | None, progress: Progress) -> tuple[Path, str]:
    """Return the folder of a model in the local cache, fetched if need be, and its commit.

    `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are respected. What was fetched in part goes on; a
    commit that is here whole is not asked for.

    Raises:
        CheckpointError: no such repository or revision, no right to it, no network, no room.
    """
    from huggingface_hub import snapshot_download

    if revision and COMMIT.fullmatch(revision) and (found := cached(repo, revision)):
        return found, revision
    name = f"{repo}@{revision}" if revision else repo
    progress(f"fetching {name}")
    with one_line(f"model {name}", CheckpointError), quiet():
        _check_room(name, missing_bytes(repo, revision))
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(ALLOWED),
            ignore_patterns=list(IGNORED),
            tqdm_class=_bar_class(name, progress),
        )
    return Path(folder), Path(folder).name


def missing_bytes(repo: str, revision: str | None) -> int:
    """Return the bytes of a model that are not in the local cache yet; 0 if the Hub cannot be asked."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import DryRunError

    if constants.HF_HUB_OFFLINE:
        return 0
    try:
        files = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(ALLOWED),
            ignore_patterns=list(IGNORED),
            tqdm_class=_bar_class(repo, lambda line: None),
            dry_run=True,
        )
    except DryRunError as error:
        if error.__cause__ and _is_network(error.__cause__) and cached(repo, revision) is None:
            raise
        return 0  # all is here, or else fetching knows better what is wrong
    return sum(file.file_size or 0 for file in files if file.will_download)


def cached(repo: str, revision: str | None) -> Path | None:
    """Return the folder of a model if the local cache has it; asks no network."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(ALLOWED),
            ignore_patterns=list(IGNORED),
            local_files_only=True,
        )
    except OSError:  # nothing there, or only a part
        return None
    return Path(folder)


def repo_files(kind: RepoKind, repo: str) -> tuple[str, list[RepoFile]]:
    """Return the commit of a repository and its files.

    Raises:
        InputError: no such repository or revision, no right to it, no network.
    """
    from huggingface_hub import HfApi

    with one_line(f"{kind} {repo}", InputError):
        info: Any = HfApi().repo_info(repo, repo_type=kind, files_metadata=True)
    files = [
        RepoFile(name=file.rfilename, num_bytes=file.size or 0, sha256=file.lfs.sha256 if file.lfs else None)
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


def _check_room(name: str, num_bytes: int) -> None:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if num_bytes and num_bytes + SPARE_BYTES > free:
        raise CheckpointError(
            f"model {name}: {num_bytes / 2**30:.1f} GiB to fetch and {free / 2**30:.1f} GiB free in {folder}; "
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


@contextmanager
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


@contextmanager
def one_line(what: str, kind: type[MergebenchError]) -> Iterator[None]:
    """Turn what the Hub's libraries raise inside the block into one line of that kind."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.HFValidationError, errors.HfHubHTTPError, OSError) as error:
        raise kind(f"{what}: {problem_of(error)}") from None
    except Exception as error:
        if not _is_network(error):
            raise
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

    login = "log in with `hf auth login` or set HF_TOKEN"
    if constants.HF_HUB_OFFLINE or has(errors.OfflineModeIsEnabled):
        return "not in the local cache, and HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE"
    if has(errors.LocalTokenNotFoundError):
        return f"no token; {login}"
    if has(errors.GatedRepoError):
        return f"its authors want you to accept terms first: do so at {constants.ENDPOINT}, then {login}"
    if has(errors.RevisionNotFoundError):
        return "there is no such revision; leave @revision out or give a branch, tag or commit"
    if has(errors.RepositoryNotFoundError):
        return f"no such folder here and no such repository at {constants.ENDPOINT}; if it is private, {login}"
    if has(errors.HFValidationError):
        return "no valid name of a repository; give owner/name"
    if 401 in codes or 403 in codes:
        return f"the Hub refuses the token; check HF_TOKEN or {login}"
    if codes:
        return f"the Hub at {constants.ENDPOINT} answered with status {codes[0]}; try again later"
    if isinstance(error, errors.LocalEntryNotFoundError) or any(map(_is_network, chain)):
        return f"the Hub at {constants.ENDPOINT} cannot be reached and the cache lacks it; check the network"
    return " ".join(str(error).split())[:300]
