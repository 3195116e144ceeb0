"""Numbers outside of the range that stands at their field."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops import kinds
from voiceops.config.project import Configuration
from voiceops.errors import ConfigError

SERVICE = "services: {x: {kind: command, command: [a], %s}}"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rooms: {concurrency: 0}", "rooms.concurrency: must be 1 or more, not 0"),
        ("rooms: {stale_after_s: -0.5}", "rooms.stale_after_s: must not be negative, not -0.5"),
        ("deploy: {cleanup_every_min: 60}", "deploy.cleanup_every_min: must be 1 to 59, not 60"),
        (SERVICE % "ready_timeout_s: 0", "services.x.ready_timeout_s: must be more than 0, not 0"),
        (SERVICE % "memory_max_bytes: 0", "services.x.memory_max_bytes: must be 1 or more, not 0"),
        (SERVICE % "port: 0", "services.x.port: must be a port from 1 to 65535, not 0"),
        (SERVICE % "port: 65536", "services.x.port: must be a port from 1 to 65535, not 65536"),
        (
            SERVICE % "probe: {notify: true, interval_s: 0}",
            "services.x.probe.interval_s: must be more than 0, not 0",
        ),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(tmp_path: Path, setting: str, said: str) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(f"all: {{vars: {{project: p, {setting}}}}}\n")
    with pytest.raises(ConfigError) as refused:
        Configuration.read(inventory, kinds).this_machine()
    assert f"{refused.value.path}: {refused.value.bare}" == said


def test_the_ends_of_a_range_belong_to_it_and_null_is_no_limit(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    limits = SERVICE % "port: 65535, memory_max_bytes: null, log_max_bytes: 1"
    inventory.write_text(f"all: {{vars: {{project: p, deploy: {{cleanup_every_min: 59}}, {limits}}}}}\n")
    settings = Configuration.read(inventory, kinds).this_machine().settings
    assert settings.deploy.cleanup_every_min == 59
    assert settings.services["x"].memory_max_bytes is None
