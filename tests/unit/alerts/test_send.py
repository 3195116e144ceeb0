"""Messages on their real way: a process, Apprise, HTTP, the signature."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time

from tests.unit.alerts.receiver import receiver
from voiceops.alerts.deliver import AlertTarget
from voiceops.alerts.send import AlertSender
from voiceops.model.alerts import AlertMessage

KEY = "0123456789abcdef"
MESSAGE = AlertMessage(
    alert="no-worker",
    subject="agent",
    resolved=False,
    repeated=False,
    began_at=1000.0,
    at=1000.0,
    sentence="No agent is registered.",
    fix="inv why --fix",
    severity="error",
)


def test_a_channel_gets_text_and_the_webhook_a_document_that_it_can_verify() -> None:
    with receiver() as got:
        targets = [
            AlertTarget(name="channel 1 (json)", url=f"json://{got.url}/channel"),
            AlertTarget(name="webhook", url=f"http://{got.url}/hook?x=1", key=KEY),
        ]
        assert AlertSender("frontdesk", "web1", targets).send(MESSAGE, targets) == {}

    requests = {path: (headers, body) for path, headers, body in got.requests}
    channel = json.loads(requests["/channel"][1])
    assert channel["title"] == "[frontdesk] web1: no-worker agent began"
    assert channel["message"] == "No agent is registered.\nfix: inv why --fix"
    headers, body = requests["/hook?x=1"]
    document = json.loads(body)
    assert (document["state"], document["alert"], document["host"]) == ("firing", "no-worker", "web1")
    signed = headers["x-voiceops-timestamp"].encode() + b"." + body
    expected = "sha256=" + hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["x-voiceops-signature"] == expected


def test_each_target_that_refuses_is_named_without_its_url() -> None:
    with receiver() as got:
        got.status = 500
        targets = [
            AlertTarget(name="channel 1 (json)", url=f"json://user:token@{got.url}/channel"),
            AlertTarget(name="webhook", url=f"http://{got.url}/hook", key=KEY),
            AlertTarget(name="channel 2 (json)", url="json://127.0.0.1:1/"),
        ]
        failed = AlertSender("frontdesk", "web1", targets).send(MESSAGE, targets)

    assert set(failed) == {target.name for target in targets}
    assert failed["webhook"] == "it answered 500"
    assert "token" not in str(failed)


def test_a_target_that_does_not_answer_is_given_up_at_the_deadline() -> None:
    with receiver() as got:
        got.hold = threading.Event()
        targets = [AlertTarget(name="webhook", url=f"http://{got.url}/", key=KEY)]
        began = time.monotonic()
        failed = AlertSender("frontdesk", "web1", targets, deadline_s=1.5).send(MESSAGE, targets)
        assert time.monotonic() - began < 5
        got.hold.set()

    assert failed == {"webhook": "no answer within 1.5 s"}
