"""What `inv render` shows: every file, and no secret, however YAML or systemd writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from tests.support.projects import REPOSITORY
from voiceops.deploy.desired import DeployInputs, HostState, desired_state
from voiceops.deploy.rendered import MASK, masked_settings, rendered_files
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService
from voiceops.model.secret import Secret
from voiceops.model.settings import DeploySettings, LivekitSettings, Settings


def _never(*_: object) -> NoReturn:
    raise AssertionError("not asked for")


def state_of(settings: Settings, dotenv: dict[str, str]) -> HostState:
    materials = DeployInputs(
        root=Path("/nowhere"),
        templates=(REPOSITORY / "templates",),
        dotenv=dotenv,
        wheels=_never,
        locked_wheels=_never,
        ready_script=b"",
    )
    return desired_state(settings, materials)


def rendered(secret: str, dotenv: dict[str, str] | None = None) -> dict[str, str]:
    config: dict[str, object] = {"redis": {"password": Secret(secret)}, "turn": {"secrets": [Secret(secret)]}}
    settings = Settings(
        project="frontdesk",
        livekit=LivekitSettings(api_key=Secret("key"), api_secret=Secret(secret)),
        services={
            "livekit": LivekitService(config=config, binary="/bin/true"),
            "web": CommandService(command=["/bin/web"], env={"TOKEN": Secret(secret)}, env_from=["*"]),
        },
        deploy=DeploySettings(schedule=False),
    )
    masked = masked_settings(settings)
    values = dotenv or {}
    return rendered_files(state_of(settings, values), state_of(masked, values), settings)


SECRETS = [
    'quote-"-in-the-middle-of-a-long-secret',
    "single ' and \\ backslash and ümlaut and a very long text that YAML would fold over several lines, twice",
    "<html> & {braces}: # and %percent\nsecond=line of it",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_no_part_of_a_secret_is_shown_however_it_is_escaped(secret: str) -> None:
    shown = "\n".join(rendered(secret).values())
    assert MASK in shown
    parts = [secret, json.dumps(secret)[1:-1], secret[-8:], secret[:12]]
    assert [part for part in parts if part in shown] == []


def test_a_variable_of_several_lines_shows_its_name_only() -> None:
    (env,) = [
        text
        for path, text in rendered("s" * 32, {"PEM": '-----\nMIIabc==\nx=y"\\\n'}).items()
        if path.endswith("web.env")
    ]
    assert env == f"PEM={MASK}\nTOKEN={MASK}\nVOICEOPS_SERVICE={MASK}\n"


def test_the_server_gets_the_secrets_of_its_configuration_in_the_clear() -> None:
    config: dict[str, object] = {"redis": {"password": Secret('p"w')}}
    settings = Settings(
        project="p",
        services={"livekit": LivekitService(config=config, binary="/bin/true")},
        deploy=DeploySettings(schedule=False),
    )
    files = [
        one for one in state_of(settings, {}).resources if getattr(one, "path", "") == "/etc/p/livekit.yaml"
    ]
    with files[0].contents()[0].open() as file:
        assert 'password: p"w' in file.read().decode()


def test_masked_settings_fetch_no_secret() -> None:
    def fetch() -> str:
        raise AssertionError("fetched")

    secret = Secret.of("env", "X", fetch)
    settings = Settings(project="p", livekit=LivekitSettings(api_key=secret, api_secret=secret))
    assert masked_settings(settings).livekit.api_key.reveal() == MASK
    assert msgspec.structs.replace(settings).livekit.api_key is secret
