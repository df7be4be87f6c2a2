"""A headless Chromium, steered through its DevTools protocol over a pipe: no further package, no open port.

with Chromium(folder) as browser:
    browser.open("http://localhost:8000/")
    browser.value("document.title")
    browser.messages        # what the console said, errors of the page and of the network included
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WHY_NOT = "there is no Chromium"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


class Chromium:
    """A browser with one page. folder: where it keeps its profile."""

    def __init__(self, folder: Path, *flags: str) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        command = [str(PROGRAM), *FLAGS, *flags, "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"]
        shell = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._errors = (folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "sh", *command, "about:blank"],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._rest, self._number, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        self.messages: list[str] = []

    def __enter__(self) -> Chromium:
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._session = ""
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        for descriptor in (self._to, self._from):
            os.close(descriptor)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers. Errors (RuntimeError): it says no, or says nothing for a minute."""
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._to, json.dumps(request).encode() + b"\0")
        while True:
            message = self._next(60)
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                found: dict[str, Any] = message["result"]
                return found

    def open(self, address: str) -> float:
        """Go there; the seconds until its load event."""
        self._events.clear()
        start = time.monotonic()
        self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._next(60)
        return time.monotonic() - start

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression; a promise is awaited. Errors (RuntimeError): it throws."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 60) -> None:
        """Wait until it is true. Errors (RuntimeError): it does not become so."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            if time.monotonic() > end:
                raise RuntimeError(f"{expression} did not become true; {self.messages}")
            self.value("new Promise((done) => setTimeout(done, 20))")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Of the window, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def dark(self, wanted: bool) -> None:
        """Whether pages are asked for dark colors."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if wanted else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def mouse(self, points: list[tuple[float, float]]) -> None:
        """Press at the first, move along, release at the last."""
        steps = [("mousePressed", points[0]), *(("mouseMoved", p) for p in points), ("mouseReleased", points[-1])]
        for kind, (x, y) in steps:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def key(self, key: str, text: str = "") -> None:
        """Press and release."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **({"text": text} if text else {}))

    def picture(self, file: Path) -> None:
        """Of the whole page, as PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def _next(self, seconds: float) -> dict[str, Any]:
        """The next message; events are kept, and what the console says."""
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], seconds)[0]:
                raise RuntimeError("Chromium says nothing")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message)
            self.messages += _said(message["method"], message["params"])
        return message


def _said(method: str, event: dict[str, Any]) -> list[str]:
    if method == "Runtime.consoleAPICalled":
        return [" ".join(str(one.get("value", one.get("description", ""))) for one in event["args"])]
    if method == "Runtime.exceptionThrown":
        details = event["exceptionDetails"]
        return [str(details.get("exception", {}).get("description", details["text"]))]
    if method == "Log.entryAdded":
        return [f"{event['entry']['text']} {event['entry'].get('url', '')}"]
    return []


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, from the server of `python -m http.server`."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
