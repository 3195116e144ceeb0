"""Caddy in front of page and LiveKit, and what `inv why` says of its certificate. One stack, no agent."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import parts
from tests.support.caddy_stack import DOMAIN, caddy_stack
from tests.support.projects import Project

pytestmark = pytest.mark.timeout(180)
LIFETIME_S = 5
NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: on a full machine the certificate may have run out before the first request."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    parts.caddy()
    with caddy_stack(tmp_path_factory.mktemp("caddy"), LIFETIME_S) as made:
        made.inv("start")
        yield made


def test_page_and_signalling_come_by_https_and_a_certificate_that_is_not_renewed_is_named(
    stack: Project,
) -> None:
    port = int(stack.variables["services"]["caddy"]["port"])
    root = stack.folder / ".voiceops/data/caddy/certificates/pki/authorities/local/root.crt"
    wait_for(root)
    assert status(port, root, "/health", NO_CHECK_TIME) == 200
    assert status(port, root, "/rtc/validate", NO_CHECK_TIME) == 401  # LiveKit itself, which wants a token
    # Made for seconds, and Caddy looks every 10 minutes: as if its CA were away.
    found = finding(stack, "certificate-expired", within_s=LIFETIME_S + 60)
    assert found["cause"].startswith(f"The certificate of {DOMAIN} ran out")
    assert "inv logs --only caddy" in found["fix"]
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        status(port, root, "/health")


def wait_for(file: Path) -> None:
    ends_at = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < ends_at, sorted(file.parents[4].rglob("*"))
        time.sleep(0.05)


def status(port: int, root: Path, path: str, flags: int = 0) -> int:
    """The status of an answer by https, for a client that trusts this CA alone."""
    context = ssl.create_default_context(cafile=str(root))
    context.verify_flags |= flags
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=DOMAIN) as secure,
    ):
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: {DOMAIN}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = http.client.HTTPResponse(secure)
        answer.begin()
        return answer.status


def finding(stack: Project, rule: str, within_s: float) -> dict[str, str]:
    """The finding, once `inv why` has it."""
    ends_at = time.monotonic() + within_s
    while True:
        document = stack.inv("why", "--json", code=None).json
        for one in document["findings"]:
            if one["rule"] == rule:
                return dict(one)
        assert time.monotonic() < ends_at, document
        time.sleep(1)
