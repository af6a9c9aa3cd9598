"""A server on the loopback address that shows one slide, behind an address nobody can guess."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from her2pipe.errors import BadSlideError
from her2pipe.reporting import html
from her2pipe.reporting.viewer.layers import Layer
from her2pipe.reporting.viewer.tiles import TILE_PX, DeepZoom

LOOPBACK = "127.0.0.1"
log = logging.getLogger(__name__)


class Viewer:
    """A slide and its maps, served until `close`.

    Parameters
    ----------
    name : str
        Name of the slide.
    zoom : DeepZoom
    layers : sequence of Layer
    port : int
        Port; 0: any that is free.

    Attributes
    ----------
    address : str
        Where the browser finds it. It holds a random word, so that others on this machine do not.
    """

    def __init__(self, name: str, zoom: DeepZoom, layers: Sequence[Layer] = (), port: int = 0):
        self.zoom, token = zoom, secrets.token_urlsafe(16)
        slide = zoom.slide
        metadata = {
            "name": name,
            "width": slide.width_px0,
            "height": slide.height_px0,
            "mpp": slide.mpp,
            "tile": TILE_PX,
            "levels": zoom.levels,
            "layers": [layer.to_json() for layer in layers],
        }
        script, style = html.source("view.js"), html.source("view.css")
        self.policy = (
            "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
            f"style-src {html.digest(style)}; script-src {html.digest(script)}; "
            "base-uri 'none'; form-action 'none'"
        )
        page = html.render("view.html", name=name, script=script, style=style)
        self.pages = {
            f"/{token}/": ("text/html; charset=utf-8", page.encode()),
            f"/{token}/slide.json": ("application/json", json.dumps(metadata).encode()),
        }
        self.tiles = f"/{token}/tile/"
        self._server = ThreadingHTTPServer((LOOPBACK, port), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.address = f"http://{LOOPBACK}:{self.port}/{token}/"

    def serve(self) -> None:
        """Serve until `close` is called from elsewhere, or Ctrl-C."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop serving, and free the port."""
        self._server.shutdown()
        self._server.server_close()

    def find(self, path: str) -> tuple[str, bytes]:
        """Return the kind and the bytes of what a path names.

        Raises
        ------
        LookupError
            When there is nothing.
        """
        if path in self.pages:
            return self.pages[path]
        if not path.startswith(self.tiles):
            raise LookupError(path)
        numbers = path.removeprefix(self.tiles).removesuffix(".jpg").split("/")
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() for n in numbers):
            raise LookupError(path)
        return "image/jpeg", self.zoom.tile(*map(int, numbers))


def _handler(viewer: Viewer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET requests of a browser on this machine."""

        def do_GET(self) -> None:
            # A page elsewhere may have its name point here: only our own address is answered.
            if self.headers.get("Host") not in (f"{LOOPBACK}:{viewer.port}",):
                return self._answer(403, "text/plain", b"wrong host")
            try:
                kind, body = viewer.find(self.path)
            except LookupError:
                return self._answer(404, "text/plain", b"not found")
            except BadSlideError as error:
                return self._answer(500, "text/plain; charset=utf-8", str(error).encode())
            return self._answer(200, kind, body)

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", viewer.policy)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    return Handler
