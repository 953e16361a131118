"""A small Hugging Face Hub on loopback: models, data sets and plain files, fetched and pushed as on the real one.

Status codes, headers and error codes are those that huggingface_hub and datasets look at. Large files are answered
with a redirect, in ranges on request. `served` answers within a block; `start` until the process ends.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "a" * 40
TOKEN = "hf_" + "t" * 34
STRANGER = "hf_" + "s" * 34
"""A valid token whose owner accepted no terms."""
Kind = Literal["model", "dataset"]
LARGE = (".safetensors", ".parquet")
"""Endings of files that the Hub keeps outside git."""
_DIGESTS: dict[tuple[str, int, int], tuple[str, str]] = {}


@dataclass
class LoopbackHub:
    """What the server holds, and what was asked of it."""

    repos: dict[str, Path] = field(default_factory=dict)
    """Folders of models by repository."""
    datasets: dict[str, Path] = field(default_factory=dict)
    """Folders of data sets by repository."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Plain files below /files/, as GitHub has them, by `<repository>/<path>`."""
    commits: dict[tuple[Kind, str], str] = field(default_factory=dict)
    """Latest commit; COMMIT where there is none."""
    earlier: dict[tuple[Kind, str, str], Path] = field(default_factory=dict)
    """Folders by earlier commit."""
    gated: set[str] = field(default_factory=set)
    pushed: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by repository, as they were pushed."""
    private: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    """Ranges that were asked for, in order."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers with a large or plain file are cut off, first one first."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by sha256."""
    url: str = ""
    storage_url: str = ""
    """Another origin, from which large files come."""

    def add(self, kind: Kind, repo: str, folder: Path) -> str:
        """Hold a repository, or a new commit of it, and return the commit: a digest of names and contents."""
        folders = self.repos if kind == "model" else self.datasets
        if repo in folders:
            self.earlier[kind, repo, self.commit_of(kind, repo)] = folders[repo]
        listing = [(name, _digests(path)[1]) for name, path in _listed(folder).items()]
        commit = hashlib.sha1(json.dumps([kind, repo, listing]).encode()).hexdigest()
        folders[repo], self.commits[kind, repo] = folder, commit
        return commit

    def commit_of(self, kind: Kind, repo: str) -> str:
        """Return the latest commit of a repository."""
        return self.commits.get((kind, repo), COMMIT)

    def folder_at(self, kind: Kind, repo: str, revision: str) -> Path | None:
        """Return the folder of a repository at a revision; None if there is none."""
        if revision in ("main", self.commit_of(kind, repo)):
            return (self.repos if kind == "model" else self.datasets).get(repo)
        return self.earlier.get((kind, repo, revision))

    def start(self, port: int = 0) -> list[ThreadingHTTPServer]:
        """Answer requests from threads until the servers, one of them for large files, are shut down."""
        servers = [ThreadingHTTPServer(("127.0.0.1", number), _handler(self)) for number in (port, 0)]
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
        for server in servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return servers

    @contextmanager
    def served(self) -> Iterator[LoopbackHub]:
        """Answer requests within the block."""
        servers = self.start()
        try:
            yield self
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()

    def environment(self, hf_home: Path) -> dict[str, str]:
        """Return the variables with which a process uses this Hub and no other."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(hf_home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MERGEBENCH_FILES_ENDPOINT": f"{self.url}/files",
        }


def _handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer_json(self, document: Any) -> None:
            self.answer(200, json.dumps(document).encode(), Content_Type="application/json")

        def token(self) -> str | None:
            return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

        def refused(self, kind: Kind, repo: str) -> bool:
            is_known = repo in (hub.datasets if kind == "dataset" else {**hub.repos, **hub.pushed})
            if self.token() not in (None, TOKEN, STRANGER):
                self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
            elif not is_known:
                # the real one tells nobody without a token whether a repository exists
                self.answer(404 if self.token() else 401, X_Error_Code="RepoNotFound")
            else:
                return False
            return True

        def gate_closed(self, repo: str) -> bool:
            if repo not in hub.gated or self.token() == TOKEN:
                return False
            self.answer(403 if self.token() else 401, X_Error_Code="GatedRepo")
            return True

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if path == "/api/whoami-v2":
                is_known = self.token() in (TOKEN, STRANGER)
                return self.answer_json({"name": "me", "type": "user"}) if is_known else self.answer(401)
            if path.startswith("/files/"):
                return self.plain_file(hub.files.get(path.removeprefix("/files/")))
            if path.startswith("/large/"):
                return self.large(Path(path.removeprefix("/large")))
            if match := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(.*))?", path):
                return self.listing(_kind(match[1]), match[2], (match[3] or "").split("/"))
            if match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                return self.file("dataset" if match[1] else "model", match[2], match[3], match[4])
            return self.answer(404)

        def listing(self, kind: Kind, repo: str, rest: list[str], paths: list[str] | None = None) -> None:
            """Answer with what a repository is or has: /, /revision/R, /tree/R/..., /paths-info/R, /auth-check."""
            if self.refused(kind, repo):
                return
            if rest[0] == "auth-check":
                return None if self.gate_closed(repo) else self.answer_json({})
            revision = rest[1] if len(rest) > 1 else "main"
            folder = hub.folder_at(kind, repo, revision)
            if folder is None and not (kind == "model" and repo in hub.pushed):
                return self.answer(404, X_Error_Code="RevisionNotFound")
            names = _listed(folder) if folder else {}
            commit = hub.commit_of(kind, repo) if revision == "main" else revision
            if rest[0] == "tree":
                is_deep = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() in ("true", "1")
                return self.answer_json(_tree(names, "/".join(rest[2:]), is_deep))
            if rest[0] == "paths-info":
                known = _tree(names, "", is_deep=True)
                return self.answer_json([entry for entry in known if entry["path"] in (paths or [])])
            if rest[0] not in ("", "revision"):
                return self.answer(404, X_Error_Code="EntryNotFound")
            self.answer_json(_info(kind, repo, commit, names, is_gated=repo in hub.gated))

        def file(self, kind: Kind, repo: str, revision: str, name: str) -> None:
            if self.refused(kind, repo) or self.gate_closed(repo):
                return
            folder = hub.folder_at(kind, repo, revision)
            if folder is None:
                return self.answer(404, X_Error_Code="RevisionNotFound")
            commit = hub.commit_of(kind, repo) if revision == "main" else revision
            path = folder / name
            if not path.is_file():
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            blob, sha256 = _digests(path)
            if not name.endswith(LARGE):
                return self.answer(200, path.read_bytes(), ETag=f'"{blob}"', X_Repo_Commit=commit)
            self.answer(
                302,
                Location=f"{hub.storage_url}/large{quote(str(path))}",
                X_Repo_Commit=commit,
                X_Linked_Size=str(path.stat().st_size),
                X_Linked_ETag=f'"{sha256}"',
            )

        def plain_file(self, content: bytes | None) -> None:
            if content is None:
                return self.answer(404)
            part = content[: hub.cuts.pop(0)] if hub.cuts else content
            self.close_connection = part != content
            self.answer(200, part, Content_Length=str(len(content)))

        def large(self, path: Path) -> None:
            """Answer with a file, in part if asked, and cut the connection where `cuts` says so."""
            if not any(path.is_relative_to(folder) for folder in _folders(hub)):
                return self.answer(404)
            content = path.read_bytes()
            etag = f'"{_digests(path)[1]}"'
            first, last = 0, len(content) - 1
            if given := self.headers.get("Range"):
                hub.ranges.append(given)
                start, _, end = given.removeprefix("bytes=").partition("-")
                first, last = int(start), min(int(end or last), last)
            part = content[first : last + 1]
            headers = {"ETag": etag, "Content_Length": str(len(part)), "Accept_Ranges": "bytes"}
            if given:
                headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
            if hub.cuts and self.command == "GET":
                part = part[: hub.cuts.pop(0)]
                self.close_connection = True
            self.send_response(206 if given else 200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(part)

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"POST {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.token() not in (None, TOKEN, STRANGER):
                return self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
            if match := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)/(paths-info/.+)", path):
                return self.listing(_kind(match[1]), match[2], match[3].split("/"), _asked_paths(body))
            if path == "/api/repos/create":
                asked = json.loads(body)
                repo = f"{asked.get('organization', 'me')}/{asked['name']}"
                hub.pushed.setdefault(repo, {})
                hub.private |= {repo} if asked.get("private") or asked.get("visibility") == "private" else set()
                return self.answer_json({"url": f"{hub.url}/{repo}", "id": repo, "name": repo})
            if path == "/api/validate-yaml":
                return self.answer_json({"errors": [], "warnings": []})
            repo = "/".join(
                path.strip("/")
                .removeprefix("api/models/")
                .removesuffix(".git/info/lfs/objects/batch")
                .split("/")[:2]
            )
            if path.endswith("/info/lfs/objects/batch"):
                return self.batch(json.loads(body))
            if "/preupload/" in path:
                files = [
                    {
                        "path": file["path"],
                        "shouldIgnore": False,
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    }
                    for file in json.loads(body)["files"]
                ]
                return self.answer_json({"files": files})
            if "/commit/" in path:
                return self.commit(repo, body)
            return self.answer(404)

        def batch(self, asked: Any) -> None:
            objects = [
                {
                    "oid": item["oid"],
                    "size": item["size"],
                    "actions": {"upload": {"href": f"{hub.url}/upload?oid={item['oid']}", "header": {}}},
                }
                for item in asked["objects"]
            ]
            self.answer(
                200,
                json.dumps({"transfer": "basic", "objects": objects}).encode(),
                Content_Type="application/vnd.git-lfs+json",
            )

        def do_PUT(self) -> None:
            oid = parse_qs(urlsplit(self.path).query)["oid"][0]
            data = self.rfile.read(int(self.headers["Content-Length"]))
            assert hashlib.sha256(data).hexdigest() == oid
            hub.objects[oid] = data
            self.answer(200)

        def commit(self, repo: str, body: bytes) -> None:
            files = hub.pushed.setdefault(repo, {})
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
                if item["key"] == "lfsFile":
                    files[item["value"]["path"]] = hub.objects[item["value"]["oid"]]
            self.answer_json(
                {"commitUrl": f"{hub.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT, "commitMessage": ""}
            )

    return Handler


def _kind(name: str) -> Kind:
    return "model" if name == "model" else "dataset"


def _folders(hub: LoopbackHub) -> list[Path]:
    return [*hub.repos.values(), *hub.datasets.values(), *hub.earlier.values()]


def _asked_paths(body: bytes) -> list[str]:
    """Return the paths of a request, which is a form or JSON."""
    text = body.decode()
    found: Any = json.loads(text) if text.startswith("{") else parse_qs(text)
    return list(found.get("paths", []))


def _listed(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _tree(names: dict[str, Path], under: str, is_deep: bool) -> list[dict[str, Any]]:
    """Return files and folders below a folder as the Hub lists them."""
    prefix = f"{under}/" if under else ""
    inside = {name: path for name, path in names.items() if name.startswith(prefix)}
    parents = {parent.as_posix() for name in inside for parent in Path(name).parents} - {"."}
    folders = [name for name in sorted(parents) if name.startswith(prefix) and name != under]
    entries = [
        {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}
        for name in folders
    ]
    entries += [_entry(name, path) for name, path in inside.items()]
    return [entry for entry in entries if is_deep or "/" not in str(entry["path"]).removeprefix(prefix)]


def _entry(name: str, path: Path) -> dict[str, Any]:
    blob, sha256 = _digests(path)
    size = path.stat().st_size
    large = {"lfs": {"oid": sha256, "size": size, "pointerSize": 134}} if name.endswith(LARGE) else {}
    return {"type": "file", "path": name, "size": size, "oid": blob, **large}


def _info(kind: Kind, repo: str, commit: str, names: dict[str, Path], is_gated: bool) -> dict[str, Any]:
    siblings = [_sibling(name, path) for name, path in names.items()]
    return {
        "_id": hashlib.sha1(repo.encode()).hexdigest()[:24],
        "id": repo,
        "author": repo.split("/")[0],
        "sha": commit,
        "private": False,
        "gated": "manual" if is_gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "lastModified": "2025-05-16T00:00:00.000Z",
        "createdAt": "2025-05-16T00:00:00.000Z",
        "siblings": siblings,
        **({"cardData": {}} if kind == "dataset" else {}),
    }


def _sibling(name: str, path: Path) -> dict[str, Any]:
    blob, sha256 = _digests(path)
    size = path.stat().st_size
    large = {"lfs": {"sha256": sha256, "size": size, "pointerSize": 134}} if name.endswith(LARGE) else {}
    return {"rfilename": name, "size": size, "blobId": blob, **large}


def _digests(path: Path) -> tuple[str, str]:
    """Return git blob id and sha256 of a file, computed once per file as it is."""
    found = path.stat()
    key = (str(path), found.st_size, found.st_mtime_ns)
    if key not in _DIGESTS:
        content = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        _DIGESTS[key] = (blob, hashlib.sha256(content).hexdigest())
    return _DIGESTS[key]
