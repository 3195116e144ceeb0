"""Observe what no event of the monitor tells: the disk, LiveKit's clock, its certificate."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from voiceops.alerts.conditions import MachineFacts

TIMEOUT_S = 5.0


def observe_machine(folder: Path, url: str, *, context: ssl.SSLContext | None = None) -> MachineFacts:
    """What can be observed within some seconds; what can't stays None. ``context``: trusts other authorities."""
    free = None
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
    parts = urlsplit(url)
    host = parts.hostname or ""
    encrypted = parts.scheme in ("wss", "https")
    port = parts.port or (443 if encrypted else 80)
    expires_at, error = _certificate(host, port, context) if encrypted else (None, "")
    skew = None if error else _clock_skew_s(host, port, context if encrypted else None, encrypted=encrypted)
    return MachineFacts(
        disk_free_bytes=free, clock_skew_s=skew, certificate_expires_at=expires_at, certificate_error=error
    )


def _certificate(host: str, port: int, context: ssl.SSLContext | None) -> tuple[float | None, str]:
    """When the certificate expires, or why it is refused; neither where nobody answers."""
    context = context or ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as encrypted,
        ):
            certificate = encrypted.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return None, error.verify_message
    except (OSError, ValueError):  # ValueError: a name that no resolver takes
        return None, ""
    expires = certificate.get("notAfter")
    return (ssl.cert_time_to_seconds(expires) if isinstance(expires, str) else None), ""


def _clock_skew_s(host: str, port: int, context: ssl.SSLContext | None, *, encrypted: bool) -> float | None:
    """Seconds that the server's clock is ahead of ours, by the Date of its answer, to a second."""
    connection = (
        http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        if encrypted
        else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    )
    try:
        began = time.time()
        connection.request("GET", "/")
        date = connection.getresponse().getheader("Date")
        if date is None:
            return None
        # The header has whole seconds, cut off: on average it is half a second early.
        return parsedate_to_datetime(date).timestamp() + 0.5 - (began + time.time()) / 2
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
