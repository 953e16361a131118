"""A small Hugging Face Hub on loopback: the few endpoints that fetching and pushing a model use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "a" * 40
TOKEN = "hf_" + "t" * 34


@dataclass
class LoopbackHub:
    """What the server holds, and what was asked of it."""

    repos: dict[str, Path] = field(default_factory=dict)
    """Folders by repository."""
    gated: set[str] = field(default_factory=set)
    pushed: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by repository, as they were pushed."""
    private: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by sha256."""
    url: str = ""

    @contextmanager
    def served(self) -> Iterator[LoopbackHub]:
        """Answer requests within the block."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer_json(self, document: Any) -> None:
            self.answer(200, json.dumps(document).encode(), Content_Type="application/json")

        def refused(self, repo: str) -> bool:
            token = self.headers.get("Authorization")
            if token and token != f"Bearer {TOKEN}":
                self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
            elif repo not in hub.repos and repo not in hub.pushed:
                self.answer(404, X_Error_Code="RepoNotFound")
            elif repo in hub.gated and not token:
                self.answer(403, X_Error_Code="GatedRepo")
            else:
                return False
            return True

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if path == "/api/whoami-v2":
                is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                return self.answer_json({"name": "me", "type": "user"}) if is_known else self.answer(401)
            parts = path.strip("/").split("/")
            if len(parts) < 4:
                return self.answer(404)
            if parts[:2] == ["api", "models"]:
                return self.model("/".join(parts[2:4]), parts[4:])
            return self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def model(self, repo: str, rest: list[str]) -> None:
            if self.refused(repo):
                return
            if rest and rest[-1] not in ("main", COMMIT):
                return self.answer(404, X_Error_Code="RevisionNotFound")
            files = (
                sorted(path for path in hub.repos[repo].rglob("*") if path.is_file()) if repo in hub.repos else []
            )
            names = {path.relative_to(hub.repos[repo]).as_posix(): path for path in files}
            if rest[:1] == ["tree"]:
                return self.answer_json(
                    [
                        {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}
                        for name, path in names.items()
                    ]
                )
            self.answer_json({"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})

        def file(self, repo: str, revision: str, name: str) -> None:
            if self.refused(repo):
                return
            path = hub.repos[repo] / name
            if not path.is_file():
                return self.answer(404, X_Error_Code="EntryNotFound")
            self.answer(200, path.read_bytes(), ETag=f'"{_etag(path)}"', X_Repo_Commit=COMMIT)

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"POST {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "Authorization" in self.headers and self.headers["Authorization"] != f"Bearer {TOKEN}":
                return self.answer(401)
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
                    {"path": file["path"], "shouldIgnore": False, "uploadMode": _mode(file["path"])}
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


def _mode(name: str) -> str:
    return "lfs" if name.endswith(".safetensors") else "regular"


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
