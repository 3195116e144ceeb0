"""A proxy in front of LiveKit's API that is late, or answers with an error: PORT TARGET STATUS SECONDS.

Runs on test hosts: standard library only.
"""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Late(BaseHTTPRequestHandler):
    """Passes requests on after a while where STATUS is 200."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        target, status, late_s = sys.argv[2:]
        time.sleep(float(late_s))
        code, answer = int(status), b""
        if code == 200:
            asked = urllib.request.Request(f"http://127.0.0.1:{target}{self.path}", body, dict(self.headers))
            try:
                with urllib.request.urlopen(asked, timeout=10) as passed_on:
                    answer = passed_on.read()
            except urllib.error.HTTPError as error:
                code, answer = error.code, error.read()
        self.send_response(code)
        self.send_header("Content-Type", "application/protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Late).serve_forever()
