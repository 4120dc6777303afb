"""Drive a headless Chromium over its DevTools pipe: open pages, press keys, count requests, take pictures."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final

PATIENCE: Final = 60.0
"""Seconds after which a browser that does not respond counts as stuck."""
_START: Final = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
_OPTIONS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"),
    *("--disable-component-update", "--disable-background-networking", "--disable-sync", "--remote-debugging-pipe"),
)
_KEYS: Final = {"Tab": 9, "Enter": 13, "Space": 32, "ArrowDown": 40}


class Browser:
    """A browser with an empty profile. It is closed at the end of the context.

    Args:
        binary: the path of Chromium.
        profile: an empty directory for the browser's profile.
    """

    def __init__(self, binary: Path, profile: Path) -> None:
        self._line = [str(binary), *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(profile)}
        self._number = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        theirs, ours, heard, said = (fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in self._pipes())
        self._out, self._in = ours, heard
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs), str(said), *self._line],
            env=self._environment,
            pass_fds=(theirs, said),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(said)
        return self

    @staticmethod
    def _pipes() -> tuple[int, int, int, int]:
        (theirs, ours), (heard, said) = os.pipe(), os.pipe()
        return theirs, ours, heard, said

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait(PATIENCE)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol. Events that arrive meanwhile are stored in `events`."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait(self, method: str, session: str) -> None:
        """Wait for the next event of this type."""
        while not any(one.get("method") == method and one.get("sessionId") == session for one in self.events):
            self.events.append(self._read())

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], PATIENCE)[0], "the browser does not respond"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def open(self, url: str, **view: Any) -> Tab:
        """Open a page in a new tab; see `Tab`."""
        return Tab(self, url, **view)


class Tab:
    """An open page.

    Args:
        width, height: size of the window in pixels.
        scripts: whether the page's scripts run.
        media: `screen` or `print`.
        dark: whether the user prefers dark colors.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        width: int = 1200,
        height: int = 900,
        scripts: bool = True,
        media: str = "screen",
        dark: bool = False,
    ) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable")
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        browser.events.clear()
        self._call("Page.navigate", url=url)
        browser.wait("Page.loadEventFired", self._session)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript as in the console, and return the value. Await promises."""
        done = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys one after the other. A key is given by its name or as a single character."""
        for key in keys:
            text = {"Space": " ", "Enter": "\r"}.get(key, key if len(key) == 1 else "")
            name = {"Space": " "}.get(key, key)
            detail = {"key": name, "code": key, "windowsVirtualKeyCode": _KEYS.get(key, 0)}
            self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **detail)
            self._call("Input.dispatchKeyEvent", type="keyUp", **detail)

    def requests(self) -> list[str]:
        """Return the address of every request so far, including the request for the page."""
        self.evaluate("new Promise(done => setTimeout(done, 200))")
        return [one["params"]["request"]["url"] for one in self._events("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Return the browser's log: script errors, and violations of the content security policy."""
        found = [one["params"]["entry"]["text"] for one in self._events("Log.entryAdded")]
        return found + [str(one["params"]["exceptionDetails"]) for one in self._events("Runtime.exceptionThrown")]

    def _events(self, method: str) -> list[dict[str, Any]]:
        return [one for one in self._browser.events if one.get("method") == method and one.get("sessionId") == self._session]

    def picture(self, *, is_whole: bool = False) -> bytes:
        """Return a PNG of the window, or of the whole page."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole)["data"])

    def pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self._call("Page.printToPDF")["data"])
