"""Headless Chromium, driven through its DevTools protocol: open a page, evaluate, wait, look."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import websocket

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip


def find_chromium() -> str | None:
    """Return the program, or None if there is none on this machine."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One open page."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        """Every address that the page asked for."""
        for domain in ("Page", "Network", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a DevTools command and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        reply = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = 60.0) -> Any:
        """Evaluate until the value is true, and return it."""
        return wait_until(lambda: self.evaluate(expression), timeout_s, expression)

    def screenshot(self, path: Path) -> None:
        """Write a PNG of what is in view."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


def wait_until(look: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Call `look` until it returns something true."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"still waiting for: {what}"
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def open_page(url: str, folder: Path, width: int = 1280, height: int = 1000) -> Iterator[Page]:
    """Open `url` in a browser of its own that keeps its state in `folder`."""
    program = find_chromium()
    assert program is not None
    command = [program, *FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            marker = folder / "DevToolsActivePort"
            text = wait_until(lambda: marker.is_file() and marker.read_text().strip(), 60, "the browser")
            port = text.splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as reply:
                target = next(target for target in json.load(reply) if target["type"] == "page")
            socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=60)
            with contextlib.closing(socket):
                page = Page(socket)
                page.send("Page.navigate", url=url)
                yield page
        finally:
            process.kill()
