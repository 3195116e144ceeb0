"""Send one message to the channels that are handed in; a process of its own (``python -m voiceops.alerts.deliver``).

Apprise and its 200 services would cost the monitor 20 MB, and some of them know no deadline: this process is killed at
its. Addresses and keys come on stdin, as JSON, because arguments can be read by everybody on the machine.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import logging
import ssl
import sys
from urllib.parse import urlsplit

import msgspec

from voiceops.model.alerts import AlertMessage

TIMEOUT_S = 10.0
_DEPLOY_WORDS = {
    "started": "started",
    "succeeded": "succeeded",
    "failed": "failed",
    "rolled-back": "went back",
}
SIGNATURE_HEADER = "X-Voiceops-Signature"
TIMESTAMP_HEADER = "X-Voiceops-Timestamp"


class AlertTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message goes: the URL of a channel for Apprise or, with a key, of a signed webhook."""

    name: str
    """What logs call it: a URL can hold a token."""
    url: str
    key: str = ""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message for some targets."""

    project: str
    host: str
    message: AlertMessage
    targets: list[AlertTarget]


def main() -> None:
    """Read a ``Delivery``, write the names of targets that failed, each with the reason."""
    delivery = msgspec.json.decode(sys.stdin.buffer.read(), type=Delivery)
    failed = {}
    for target in delivery.targets:
        reason = _post(target, delivery) if target.key else _notify(target, delivery)
        if reason:
            failed[target.name] = reason
    sys.stdout.buffer.write(msgspec.json.encode(failed))


def title(delivery: Delivery) -> str:
    """One line: where, what, and whether it begins or is over."""
    message = delivery.message
    what = " ".join(filter(None, (message.alert, message.subject)))
    return f"[{delivery.project}] {delivery.host}: {what} {_state(message)}"


def text(message: AlertMessage) -> str:
    """The sentence, and what to type."""
    lines = [message.sentence]
    if message.resolved and message.deploy_state is None:
        lines.append(f"It lasted {_lasted(message.at - message.began_at)}.")
    elif message.fix:
        lines.append(f"fix: {message.fix}")
    return "\n".join(lines)


def body(delivery: Delivery) -> bytes:
    """What the signed webhook gets."""
    message = delivery.message
    state = "resolved" if message.resolved else "repeated" if message.repeated else "firing"
    fields = msgspec.structs.asdict(message)
    return msgspec.json.encode(
        {
            "project": delivery.project,
            "host": delivery.host,
            "state": fields.pop("deploy_state") or state,
            **fields,
        }
    )


def signature(key: str, timestamp: str, content: bytes) -> str:
    """HMAC-SHA256 over timestamp, a dot and the body: an old message can't be sent again as a new one."""
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()


def _state(message: AlertMessage) -> str:
    if message.deploy_state is not None:
        return _DEPLOY_WORDS[message.deploy_state]
    if message.resolved:
        return "is over"
    return f"for {_lasted(message.at - message.began_at)}" if message.repeated else "began"


def _lasted(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _post(target: AlertTarget, delivery: Delivery) -> str:
    parts = urlsplit(target.url)
    content = body(delivery)
    timestamp = str(int(delivery.message.at))
    connection = (
        http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    )
    headers = {
        "Content-Type": "application/json",
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: signature(target.key, timestamp, content),
    }
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", path, body=content, headers=headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if 200 <= status < 300 else f"it answered {status}"


class _LastLine(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.line = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.line = record.getMessage()


def _notify(target: AlertTarget, delivery: Delivery) -> str:
    import apprise

    said = _LastLine()
    logging.getLogger("apprise").addHandler(said)
    channel = apprise.Apprise()
    message = delivery.message
    kind = (
        apprise.NotifyType.INFO
        if message.deploy_state == "started"
        else apprise.NotifyType.SUCCESS
        if message.resolved
        else apprise.NotifyType.FAILURE
        if message.severity == "error"
        else apprise.NotifyType.WARNING
    )
    if channel.add(target.url) and channel.notify(
        body=text(message), title=title(delivery), notify_type=kind
    ):
        return ""
    return said.line.replace(target.url, target.name) or "it was refused"


if __name__ == "__main__":
    main()
