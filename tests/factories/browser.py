"""A headless browser for tests: opens a page from disk, runs its scripts, collects errors."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    *("--disable-extensions", "--disable-sync", "--hide-scrollbars", "--mute-audio"),
    "--remote-debugging-pipe",
)
LIMIT_S = 120


def browser_path() -> str:
    """Return the path of an installed browser, empty without one."""
    return next(filter(None, map(shutil.which, NAMES)), "")


class Browser:
    """One tab, spoken to by Chrome's DevTools protocol over a pair of pipes.

    Attributes
    ----------
    complaints : list of str
        Errors and warnings of the console, and exceptions nobody caught.
    requests : list of str
        Addresses the page requested.
    """

    def __init__(self, folder, width_px=1200, height_px=900):
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # The browser reads commands from its file 3 and answers on its file 4.
        command = [browser_path(), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        line = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, "bash", *command],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        os.close(to_read)
        os.close(to_write)
        self._count, self._rest, self._session = 0, b"", None
        self.complaints, self.requests, self._seen = [], [], set()
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = session["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{part}.enable")
        self.size(width_px, height_px)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._write)  # the browser ends when nobody is left to speak to it
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def ask(self, method, **params):
        """Send a command and return its answer; events that arrive meanwhile are recorded."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], LIMIT_S)[0]:
                raise TimeoutError("the browser does not answer")
            block = os.read(self._read, 1 << 20)
            if not block:
                raise RuntimeError("the browser has gone")
            self._rest += block
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event, params):
        self._seen.add(event)
        if event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", str(details)))
        elif event == "Runtime.consoleAPICalled" and params["type"] in (
            "error",
            "warning",
            "assert",
        ):
            values = [str(a.get("value", a.get("description"))) for a in params["args"]]
            self.complaints.append(f"{params['type']}: {' '.join(values)}")
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"][:200])
        elif event == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {params['message']}")

    def size(self, width_px, height_px):
        """Set the size of the window."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=1,
            mobile=width_px < 600,
        )

    def open(self, path):
        """Open a page from disk and wait until it has loaded with its images."""
        self._seen.discard("Page.loadEventFired")
        self.ask("Page.navigate", url=Path(path).as_uri())
        while "Page.loadEventFired" not in self._seen:
            self._next()

    def run(self, code):
        """Evaluate JavaScript, waiting for a promise, and return its value."""
        result = self.ask(
            "Runtime.evaluate",
            expression=code,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", code))
        return result["result"].get("value")

    def until(self, code, seconds=30):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(code):
            if time.monotonic() > end:
                raise TimeoutError(code)
            time.sleep(0.05)

    def press(self, key, code=None, text=""):
        """Press and release a key, as `Enter` or `Tab`."""
        number = {"Enter": 13, "Tab": 9, " ": 32}.get(key, 0)
        text = text or {"Enter": "\r", " ": " "}.get(key, "")
        event = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        self.ask(
            "Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {})
        )
        self.ask("Input.dispatchKeyEvent", type="keyUp", **event)

    def wheel(self, x, y, delta):
        """Turn the wheel over a place of the window."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)

    def drag(self, x, y, to_x, to_y):
        """Drag from one place of the window to another with the left button."""
        self.move(x, y)
        held = {"button": "left", "clickCount": 1}
        self.ask("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **held)
        for i in range(1, 6):
            at = {"x": x + (to_x - x) * i / 5, "y": y + (to_y - y) * i / 5}
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", buttons=1, button="left", **at)
        self.ask("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, **held)

    def move(self, x, y):
        """Move the pointer to a place of the window."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path, whole=False, clip=None):
        """Save the visible part, or the whole page, as PNG."""
        more = {"clip": clip | {"scale": 1}} if clip else {}
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, **more)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def pdf(self, path):
        """Print to PDF, A4."""
        data = self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]
        Path(path).write_bytes(base64.b64decode(data))
