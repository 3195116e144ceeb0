"""A package index as PEP 503 has it, over files of this machine, for hosts that reach nothing else."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import parse_wheel_filename

Read = Callable[[], bytes]


@dataclass(slots=True)
class Index:
    """What it has, what it was asked for, and how it misbehaves."""

    files: dict[str, Read]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    login: str = ""
    """``user:password`` that it wants."""
    down: bool = False
    """It answers 503."""

    def page(self, path: str) -> bytes | None:
        """The body for a path; None: 404."""
        kind, _, name = path.strip("/").partition("/")
        if kind == "files" and name in self.files:
            return self.files[name]()
        if kind != "simple" or not name:
            return None
        names = [one for one in self.files if parse_wheel_filename(one)[0] == name]
        links = "".join(f'<a href="/files/{one}">{one}</a><br>\n' for one in names)
        return f"<!DOCTYPE html><html><body>\n{links}</body></html>".encode() if names else None


@contextmanager
def package_index(address: str, files: Mapping[str, Read]) -> Iterator[Index]:
    """Serve until the block ends."""
    index = Index(dict(files))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            wanted = "Basic " + base64.b64encode(index.login.encode()).decode()
            body = index.page(self.path)
            if index.down:
                self.send_error(503)
            elif index.login and self.headers.get("Authorization") != wanted:
                self.send_error(401)
            elif body is None:
                self.send_error(404)
            else:
                self.send_response(200)
                html = self.path.startswith("/simple/")
                self.send_header("Content-Type", "text/html" if html else "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    with contextlib.suppress(ConnectionError):  # an installer that gives up hangs up
                        self.wfile.write(body)

        do_HEAD = do_GET  # uv asks first whether it could read a part

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    index.url = f"http://{address}:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def small_wheel(folder: Path, name: str, version: str, text: str = "") -> Path:
    """A wheel of one module; the same arguments make the same bytes."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for path, content in files.items():
            packed.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content)
    return wheel


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
