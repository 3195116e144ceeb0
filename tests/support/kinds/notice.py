"""A kind that exists for tests alone: it serves one sentence over HTTP, from a configuration file.

This module and its template are all of it, as of any new kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voiceops.config import decode
from voiceops.kinds.program import Program, ProgramKind
from voiceops.model.secret import Secret
from voiceops.model.settings import Port, Probe, ServiceBase, Settings

MODULE = __name__
TASKS = f"""from voiceops import kinds

kinds.MODULES = (*kinds.MODULES, {MODULE!r})
from voiceops.tasks import namespace
"""
"""A project's tasks.py that registers the kind before its inventory is read."""

_SERVER = """
import http.server, json, sys
text = json.load(open(sys.argv[2]))["text"].encode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class NoticeService(ServiceBase, tag_field="kind", tag="notice", frozen=True, kw_only=True):
    """One sentence for everybody."""

    text: Secret
    port: Port = 8099


class NoticeKind(ProgramKind[NoticeService]):
    settings = NoticeService
    template = "notice.json"

    def check(self, service: NoticeService, decoder: decode.Decoder, path: decode.Path) -> None:
        if service.port == 666:
            raise decoder.error((*path, "port"), "no notice is served there")

    def variables(self, service: NoticeService, settings: Settings) -> Mapping[str, Any]:
        return {"text": service.text.reveal()}

    def program(self, service: NoticeService, settings: Settings, config: str) -> Program:
        return Program(
            argv=["/usr/bin/env", "python3", "-c", _SERVER, str(service.port), config],
            probe=Probe(http=f"http://127.0.0.1:{service.port}/"),
            port=service.port,
        )


KIND = NoticeKind()


def add_to(folder: Path) -> None:
    """Let a project use the kind: its tasks.py registers it, its templates/ have the template."""
    (folder / "tasks.py").write_text(TASKS)
    (folder / "templates").mkdir(exist_ok=True)
    (folder / "templates" / "notice.json").write_text('{"text": {{ text | tojson }}}\n')
