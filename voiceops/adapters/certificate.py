"""Reads the certificate that a server shows to browsers, by a TLS handshake."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone

from voiceops.errors import ServiceError, UnreachableError

TIMEOUT_S = 3.0
_SEQUENCE, _UTC_TIME, _CONTEXT_0 = 0x30, 0x17, 0xA0


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate is valid, in seconds since the epoch."""

    not_before: float
    not_after: float


def served_validity(address: str, port: int, name: str) -> Validity:
    """Return the validity of what is shown for ``name``; nobody's signature is checked.

    ``UnreachableError`` where nothing listens, ``ServiceError`` where the handshake fails.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        raise ServiceError(f"no certificate for {name}: {error.reason or error}") from error
    except OSError as error:
        raise UnreachableError(f"{address}:{port} does not answer: {error.strerror or error}") from error
    if shown is None:
        raise ServiceError(f"no certificate for {name}")
    return validity_of(shown)


def validity_of(certificate: bytes) -> Validity:
    """Return the validity of a certificate in DER (RFC 5280, 4.1); ``ServiceError`` for anything else.

    Parsed here: the library that does it would take a fifth of the memory that a monitor may have.
    """
    try:
        signed, _ = _content(_content(certificate, 0)[0], 0)
        at = 0
        if signed[0] == _CONTEXT_0:  # the version, which the first one leaves out
            at = _content(signed, at)[1]
        for _ in ("serial number", "signature algorithm", "issuer"):
            at = _content(signed, at)[1]
        if signed[at] != _SEQUENCE:
            raise ValueError("no validity")
        validity, _ = _content(signed, at)
        return Validity(_time(validity, 0), _time(validity, _content(validity, 0)[1]))
    except (IndexError, ValueError) as error:
        raise ServiceError(f"what was shown is no certificate: {error}") from None


def _content(text: bytes, at: int) -> tuple[bytes, int]:
    """The content of the element that begins there, and where the next one begins."""
    size, begin = text[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        size, begin = int.from_bytes(text[begin : begin + count], "big"), begin + count
    if begin + size > len(text):
        raise ValueError("it is cut")
    return text[begin : begin + size], begin + size


def _time(text: bytes, at: int) -> float:
    """A UTCTime has two digits of the year, of 1950 to 2049; a GeneralizedTime has four."""
    form = "%y%m%d%H%M%SZ" if text[at] == _UTC_TIME else "%Y%m%d%H%M%SZ"
    moment = datetime.strptime(_content(text, at)[0].decode("ascii"), form)
    return moment.replace(tzinfo=timezone.utc).timestamp()
