"""The disk, a server's clock and its certificate, on real sockets."""

from __future__ import annotations

import datetime
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from voiceops.alerts.machine import observe_machine

DAY_S = 86_400.0


@contextmanager
def server(*, ahead_s: float = 0.0, certificate: Path | None = None) -> Iterator[int]:
    """A web server whose clock is ahead, with TLS where it has a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", formatdate(time.time() + ahead_s, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield listening.server_port
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost that is its own authority and expires in 5 days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=5))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize("ahead_s", [0.0, 45.0, -3600.0])
def test_the_clock_of_the_server_is_compared_with_ours(tmp_path: Path, ahead_s: float) -> None:
    with server(ahead_s=ahead_s) as port:
        machine = observe_machine(tmp_path, f"ws://127.0.0.1:{port}")

    assert machine.clock_skew_s == pytest.approx(ahead_s, abs=2.0)
    assert machine.disk_free_bytes is not None
    assert (machine.certificate_expires_at, machine.certificate_error) == (None, "")


def test_the_end_of_a_certificate_is_seen(tmp_path: Path, certificate: Path) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    with server(certificate=certificate) as port:
        machine = observe_machine(tmp_path, f"wss://localhost:{port}", context=context)

    assert machine.certificate_expires_at == pytest.approx(time.time() + 5 * DAY_S, abs=60)


def test_a_certificate_that_is_refused_says_why(tmp_path: Path, certificate: Path) -> None:
    with server(certificate=certificate) as port:
        machine = observe_machine(tmp_path, f"wss://localhost:{port}")

    assert "self-signed certificate" in machine.certificate_error.replace("self signed", "self-signed")


def test_what_cannot_be_reached_is_not_known(tmp_path: Path) -> None:
    machine = observe_machine(tmp_path / "nosuch", "wss://127.0.0.1:1")

    assert (machine.disk_free_bytes, machine.clock_skew_s, machine.certificate_error) == (None, None, "")
