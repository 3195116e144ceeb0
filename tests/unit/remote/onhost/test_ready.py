"""What a probe on a host takes for an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from voiceops.remote.onhost import ready


class Answers(BaseHTTPRequestHandler):
    """``/200`` answers 200; ``/to/PATH`` redirects to ``/PATH``, ``/round`` to itself."""

    def do_GET(self) -> None:
        if self.path == "/round" or self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to"))
        else:
            self.send_response(int(self.path.strip("/").partition("?")[0] or 200))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "status"),
    [("", 200), ("/200?a=b#c", 200), ("/503", 503), ("/to/200", 200), ("/to/to/404", 404), ("/round", 302)],
)
def test_the_status_of_a_get_is_that_behind_its_redirects(url: str, path: str, status: int) -> None:
    assert ready.http_status(url + path) == status


def test_nobody_listening_is_an_error_of_the_connection() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused"):
            ready.http_status(f"http://127.0.0.1:{closed.getsockname()[1]}/")
