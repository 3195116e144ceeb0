"""A certificate's validity is read as openssl has written it, whatever is shown instead of one."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

from voiceops.adapters.certificate import served_validity, validity_of
from voiceops.errors import ServiceError, UnreachableError


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    options = ["-subj", "/CN=voice.test", "-keyout", str(key), "-out", str(certificate), "-days", "90"]
    subprocess.run([*made, *options], check=True, capture_output=True)
    return key, certificate


def openssl_dates(certificate: Path) -> list[float]:
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(certificate), "-noout", "-dates"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    moments = [line.partition("=")[2].removesuffix(" GMT") for line in shown.splitlines()]
    return [
        datetime.strptime(one, "%b %d %H:%M:%S %Y").replace(tzinfo=timezone.utc).timestamp()
        for one in moments
    ]


async def test_what_a_server_shows_is_read_whoever_signed_it(files: tuple[Path, Path]) -> None:
    key, certificate = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        shown = await asyncio.to_thread(served_validity, "127.0.0.1", port, "voice.test")
    assert [shown.not_before, shown.not_after] == openssl_dates(certificate)
    with pytest.raises(UnreachableError, match="does not answer"):
        await asyncio.to_thread(served_validity, "127.0.0.1", port, "voice.test")


async def test_a_server_without_a_certificate_is_told_from_none() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.write(b"SSH-2.0-x\r\n"), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServiceError, match="no certificate for voice"):
            await asyncio.to_thread(served_validity, "127.0.0.1", port, "voice.test")


def test_what_is_cut_or_no_certificate_is_refused(files: tuple[Path, Path]) -> None:
    certificate = ssl.PEM_cert_to_DER_cert(files[1].read_text())
    assert validity_of(certificate).not_after > 0
    for text in (b"", certificate[:40], certificate[:-1], b"\x30\x03\x02\x01\x00", b"x" * 200):
        with pytest.raises(ServiceError, match="no certificate"):
            validity_of(text)
