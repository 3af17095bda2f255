"""
A headless Chromium in a namespace of the rig, driven by its DevTools protocol over a pair of pipes.

Pipes, since a port for it would be open in the test host's network; and they end with the process.
"""

import base64
import json
import os
import select
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rig.command import PATIENCE, RigError
from rig.host import Namespace

PROGRAM = "chromium-headless-shell"

# As root it refuses its own sandbox; the rest is what it would ask the network and the screen for.
_FLAGS = (
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Node:
    """Of the accessibility tree: what a screen reader is told."""

    role: str
    name: str


class Browser:
    """
    One browser with one page. `said` is what the page wrote to its console and what went wrong in it, `asked` are the
    addresses that it asked for.
    """

    def __init__(self, namespace: Namespace, label: str = "browser") -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._buffer = b""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        folder = namespace.rig.folder / f"{namespace.label}-{label}"
        # It reads from 3 and writes to 4, whatever numbers the pipes have.
        moved = ["bash", "-c", f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"', "bash"]
        command = [*moved, PROGRAM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self._process = namespace.spawn(command, log=f"{label}.log", fds=(theirs_in, theirs_out))
        os.close(theirs_in)
        os.close(theirs_out)
        self._session = ""
        self._session = self._attach()
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        for end in (self._in, self._out):
            with suppress(OSError):
                os.close(end)
        self._process.kill()

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while number not in self._answers:
            self._read(deadline)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RigError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str) -> None:
        """Go there, and wait until the page is whole; what it then asks for itself may still be on its way."""
        self.call("Page.navigate", url=address)
        self.until(lambda: self.evaluate("document.readyState") == "complete", address)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RigError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    @property
    def text(self) -> str:
        """What is to be read on the page."""
        return str(self.evaluate("document.body.innerText"))

    def until(self, holds: Callable[[], object], what: str, within_s: float = PATIENCE) -> None:
        """Wait for the page: what it says is in the error if it never comes."""
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                raise RigError(f"waited {within_s} s for {what}; the page says:\n{self.text}\n{self.said}")
            time.sleep(_PAUSE_S)

    def shape(self, width: int, height: int, *, dark: bool = False, still: bool = False) -> None:
        """The window's size in CSS pixels, and what its owner likes; a narrow one is a phone's."""
        phone = width < 500
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        wishes = {"prefers-color-scheme": "dark" if dark else "light"}
        if still:
            wishes["prefers-reduced-motion"] = "reduce"
        self.call("Emulation.setEmulatedMedia", features=[{"name": key, "value": wishes[key]} for key in wishes])

    def press(self, key: str) -> None:
        """A key by its DOM name."""
        code, text = _KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """To whatever has the focus."""
        self.call("Input.insertText", text=text)

    def before(self, script: str) -> None:
        """Run JavaScript in each page that is opened from now on, before its own."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def screenshot(self) -> bytes:
        """What is in the window, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def accessibility(self) -> list[Node]:
        """The nodes of the accessibility tree that are not ignored, in order."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [Node(_value(one, "role"), _value(one, "name")) for one in nodes if not one.get("ignored")]

    def _attach(self) -> str:
        pages = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        target = pages[0]["targetId"] if pages else self.call("Target.createTarget", url="about:blank")["targetId"]
        return str(self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def _read(self, deadline: float) -> None:
        ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
        read = os.read(self._in, 1 << 20) if ready else b""
        if not read:
            raise RigError(f"the browser does not answer\n{self._process.tail()}")
        *whole, self._buffer = (self._buffer + read).split(b"\0")
        for one in whole:
            self._take(json.loads(one))

    def _take(self, message: Mapping[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case None:
                self._answers[message["id"]] = dict(message)
            case "Network.requestWillBeSent":
                self.asked.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.said.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.said.append(json.dumps(parameters["args"]))
            case "Log.entryAdded":
                self.said.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")


_KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}  # the code of each, and what it types


def _value(node: Mapping[str, Any], name: str) -> str:
    return str(node.get(name, {}).get("value", ""))
