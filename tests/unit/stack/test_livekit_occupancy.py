"""The running server is asked with what it was started with."""

from __future__ import annotations

from voiceops.model.roles import Role
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings, RoomsSettings
from voiceops.model.states import ServiceState
from voiceops.stack.livekit_occupancy import LivekitOccupancy, running_endpoint
from voiceops.stack.model import Instance

CONFIGURED = LivekitSettings(url="ws://voice:7880", api_key=Secret("k"), api_secret=Secret("new"))
SERVER = Instance(
    service="livekit", role=Role.SERVER, launch="l", pid=1, digest="d", state=ServiceState.READY
)


def endpoints(config: str) -> list[tuple[str, str]]:
    occupancy = LivekitOccupancy(
        livekit=CONFIGURED,
        rooms=RoomsSettings(),
        port=7880,
        started_with=lambda server: config,
        url_of_port=lambda port: f"ws://127.0.0.1:{port}",
    )
    return [(one.url, one.api_secret.reveal()) for one in occupancy._endpoints([SERVER])]


def test_after_a_rotation_the_old_secret_comes_first() -> None:
    assert endpoints("port: 7880\nkeys: {k: old}") == [("ws://voice:7880", "old"), ("ws://voice:7880", "new")]


def test_after_a_change_of_the_port_the_old_port_comes_first() -> None:
    assert endpoints("port: 7999\nkeys: {k: new}") == [
        ("ws://127.0.0.1:7999", "new"),
        ("ws://voice:7880", "new"),
    ]


def test_without_the_running_configuration_the_inventory_is_left() -> None:
    for text in ("", "[", "- a", "port: 7880", "keys: {}", "port: x\nkeys: {k: s}"):
        assert running_endpoint(text) is None
        assert endpoints(text) == [("ws://voice:7880", "new")]
