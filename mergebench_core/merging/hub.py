"""Models of the Hugging Face Hub: fetched through the local cache, pushed when merged; errors in one line."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mergebench_core.errors import CheckpointError, InputError, MergebenchError, RunError

SECONDS_BETWEEN_LINES = 2.0
"""Progress is told this often at most."""
Progress = Callable[[str], None]
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


def fetch(repo: str, revision: str | None, progress: Progress) -> tuple[Path, str]:
    """Return the folder of a model in the local cache, fetched if need be, and its commit.

    `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are respected.

    Raises:
        CheckpointError: no such repository or revision, no right to it, no network.
    """
    from huggingface_hub import snapshot_download

    name = f"{repo}@{revision}" if revision else repo
    progress(f"fetching {name}")
    with _one_line(f"model {name}", CheckpointError):
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(ALLOWED),
            ignore_patterns=list(IGNORED),
            tqdm_class=_bar_class(name, progress),
        )
    return Path(folder), Path(folder).name


def check_push(repo: str) -> None:
    """Check before a long merge that its result can be pushed.

    Raises:
        InputError: not the name of a repository, or no valid token.
    """
    from huggingface_hub import HfApi

    if HUB_ID.fullmatch(repo) is None or "@" in repo:
        raise InputError(f"--push {repo}: give the name of a repository on the Hub, owner/name")
    with _one_line(f"--push {repo}", InputError):
        HfApi().whoami()


def push(folder: Path, repo: str, *, is_private: bool, message: str) -> str:
    """Upload a folder to a model repository, made if need be, and return its address.

    Raises:
        RunError: it was refused or the network failed; the folder is as it was.
    """
    from huggingface_hub import HfApi

    with _one_line(f"--push {repo} (the merged model is in {folder}; the same command tries again)", RunError):
        api = HfApi()
        url = api.create_repo(repo, private=is_private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    return str(url)


def _bar_class(name: str, progress: Progress) -> type[Any]:
    """Return a progress bar that draws nothing but tells percents of the bytes."""
    from tqdm.auto import tqdm

    told_s = time.monotonic()

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, name: str | None = None, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": False, "file": io.StringIO()})

        def display(self, *args: Any, **settings: Any) -> None:
            nonlocal told_s
            if self.unit == "B" and self.total and time.monotonic() - told_s > SECONDS_BETWEEN_LINES:
                told_s = time.monotonic()
                progress(f"fetching {name}: {100 * self.n // self.total:.0f}% of {self.total / 2**20:.0f} MiB")

    return Bar


@contextmanager
def _one_line(what: str, kind: type[MergebenchError]) -> Iterator[None]:
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
