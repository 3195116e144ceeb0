"""Which inventory is read, and which hosts the flags select; what matches nothing is exit 3."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops import kinds
from voiceops.config.project import Configuration, find_inventory
from voiceops.errors import ConfigError, UsageError
from voiceops.wiring.project import Project

INVENTORY = """\
all:
  vars: {project: p, ansible_user: everybody, zone: everywhere}
  hosts:
    localhost: {ansible_connection: local}
  children:
    web:
      hosts:
        web[1:3]: {ansible_host: 10.0.0.1, ansible_port: "2200", zone: west}
        db1:
    db: {hosts: {db1: , db2: }}
    empty:
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    """The inventory above."""
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    return Configuration.read(tmp_path / "inventory.yaml", kinds)


def names(configuration: Configuration, **flags: str) -> list[str]:
    return [host.name for host in configuration.select(**flags)]


def test_without_flags_it_is_this_machine(configuration: Configuration) -> None:
    (host,) = configuration.select()

    assert (host.name, host.local) == ("localhost", True)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"host": "web2,db1"}, ["web2", "db1"]),
        ({"group": "web"}, ["web1", "web2", "web3", "db1"]),
        ({"group": "web,db"}, ["web1", "web2", "web3", "db1", "db2"]),
        ({"host": "web1", "group": "db"}, ["web1", "db1", "db2"]),
        ({"limit": "web:!web2"}, ["web1", "web3", "db1"]),
        ({"limit": "web:&db"}, ["db1"]),
        ({"group": "web", "limit": "*1"}, ["web1", "db1"]),
        ({"host": "web1,web1"}, ["web1"]),
    ],
)
def test_flags_select_hosts(configuration: Configuration, flags: dict[str, str], expected: list[str]) -> None:
    assert names(configuration, **flags) == expected


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        ({"host": "wbe1"}, "'web1'"),
        ({"host": "web"}, "--group web"),
        ({"host": "web*"}, "--limit 'web*'"),
        ({"host": "web1,,web2"}, "a,b"),
        ({"host": "somewhere.example.com"}, "user@somewhere.example.com"),
        ({"host": "me@"}, "user@"),
        ({"host": "me@host:99999"}, None),
        ({"host": "me@web[1:2]"}, "user@"),
        ({"group": "wbe"}, "'web'"),
        ({"group": "empty"}, "--graph"),
        ({"limit": "nothing*"}, "--graph"),
        ({"limit": "web[9]"}, "4 hosts"),
        ({"limit": "~("}, None),
        ({"host": "web1", "limit": "db"}, "--graph"),
    ],
)
def test_what_matches_nothing_is_an_error(
    configuration: Configuration, flags: dict[str, str], hint: str | None
) -> None:
    with pytest.raises(UsageError) as failed:
        configuration.select(**flags)

    assert failed.value.exit_code == 3
    assert hint is None or hint in (failed.value.hint or "")


def test_a_host_has_the_connection_that_ansible_would_use(configuration: Configuration) -> None:
    (host,) = configuration.select(host="web1")

    assert (host.address, host.user, host.port, host.local) == ("10.0.0.1", "everybody", 2200, False)
    assert host.groups == ["web"]
    assert host.vars["group_names"] == ["web"]


def test_an_ad_hoc_host_has_the_variables_of_all(configuration: Configuration) -> None:
    (host,) = configuration.select(host="deploy@new.example.com:2222")

    assert (host.name, host.user, host.port) == ("new.example.com", "deploy", 2222)
    assert host.vars["zone"] == "everywhere"
    assert host.settings.project == "p"
    assert not host.local


def test_an_ad_hoc_user_for_a_known_host_keeps_its_variables(configuration: Configuration) -> None:
    (host,) = configuration.select(host="root@web1")

    assert (host.address, host.user, host.port, host.vars["zone"]) == ("10.0.0.1", "root", 2200, "west")


def test_an_ad_hoc_ipv6_host_takes_a_port(configuration: Configuration) -> None:
    (host,) = configuration.select(host="root@[fe80::1]:22")

    assert (host.address, host.port) == ("fe80::1", 22)


def test_localhost_needs_no_declaration(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("all: {vars: {project: p}, hosts: {web1: }}\n")
    configuration = Configuration.read(tmp_path / "inventory.yaml", kinds)

    assert configuration.select()[0].local
    assert configuration.select(host="localhost")[0].local


def test_a_declared_localhost_without_local_connection_is_not_taken_for_this_machine(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("all: {vars: {project: p}, hosts: {localhost: }}\n")
    configuration = Configuration.read(tmp_path / "inventory.yaml", kinds)

    with pytest.raises(ConfigError, match="without a local connection"):
        configuration.select()
    assert not configuration.select(host="localhost")[0].local


def test_a_mistake_in_the_variables_of_another_host_is_found(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "db2.yml").write_text("---\nrooms:\n  stale_after_s: soon\n")

    with pytest.raises(ConfigError) as failed:
        Configuration.read(tmp_path / "inventory.yaml", kinds)

    assert (failed.value.line, failed.value.path) == (3, "rooms.stale_after_s")
    assert str(failed.value.file).endswith("host_vars/db2.yml")


def test_hosts_that_are_none_of_ours_need_no_project(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("web: {hosts: {web1: {project: p}, other: }}\n")
    configuration = Configuration.read(tmp_path / "inventory.yaml", kinds)

    assert names(configuration, host="web1") == ["web1"]
    with pytest.raises(ConfigError, match="project is missing"):
        configuration.select(host="other")


def test_the_inventory_is_the_flag_then_the_variable_then_beside_tasks_then_upwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flag", "variable", "tasks", "upwards/below/deep"):
        (tmp_path / name).mkdir(parents=True)
    files = {name: tmp_path / name / "inventory.yaml" for name in ("flag", "variable", "tasks", "upwards")}
    for file in files.values():
        file.write_text("all:\n")
    monkeypatch.chdir(tmp_path / "upwards" / "below" / "deep")
    monkeypatch.setenv("VOICEOPS_INVENTORY", str(files["variable"]))

    assert find_inventory(str(files["flag"]), tmp_path / "tasks") == files["flag"]
    assert find_inventory("", tmp_path / "tasks") == files["variable"]
    monkeypatch.delenv("VOICEOPS_INVENTORY")
    assert find_inventory("", tmp_path / "tasks") == files["tasks"]
    assert find_inventory("", tmp_path) == files["upwards"]


@pytest.mark.parametrize("named", ["flag", "variable"])
def test_an_inventory_that_was_named_must_exist(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "missing.yaml")
    monkeypatch.setenv("VOICEOPS_INVENTORY", missing if named == "variable" else "")

    with pytest.raises(ConfigError, match="no such inventory"):
        find_inventory(missing if named == "flag" else "", tmp_path)


def test_without_any_inventory_the_hint_is_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOICEOPS_INVENTORY", raising=False)

    with pytest.raises(ConfigError) as failed:
        Project.load()

    assert "inv init" in (failed.value.hint or "")


def test_variables_override_settings_of_rooms(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOM_STALE_TIMEOUT", "42")
    (configuration.inventory.folder / ".env").write_text("LIVEKIT_AGENT_WAIT_TIMEOUT=1500\n")

    rooms = Configuration.read(configuration.inventory.file, kinds).select()[0].settings.rooms

    assert (rooms.stale_after_s, rooms.agent_wait_timeout_s) == (42.0, 1.5)


def test_an_override_that_is_no_number_is_an_error(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOM_STALE_TIMEOUT", "5m")

    with pytest.raises(ConfigError, match="ROOM_STALE_TIMEOUT"):
        Configuration.read(configuration.inventory.file, kinds)


def urls(folder: Path, livekit: str = "{}") -> tuple[str, list[str]]:
    """The URL of this machine's LiveKit, and what is said about .env."""
    (folder / "inventory.yaml").write_text(f"all: {{vars: {{project: p, livekit: {livekit}}}}}\n")
    configuration = Configuration.read(folder / "inventory.yaml", kinds)
    hosts = configuration.select()
    return hosts[0].settings.livekit.url, configuration.notices(hosts)


def test_livekit_url_of_dotenv_counts_where_the_inventory_has_none(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LIVEKIT_URL=ws://10.0.0.9:7000\n")
    assert urls(tmp_path) == ("ws://10.0.0.9:7000", [])


def test_livekit_url_of_dotenv_that_is_not_used_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LIVEKIT_URL=ws://10.0.0.9:7000\n")
    url, notices = urls(tmp_path, "{url: 'ws://10.0.0.1:7880'}")
    assert url == "ws://10.0.0.1:7880"
    assert notices == [
        "LIVEKIT_URL in .env is not used: livekit.url in the inventory says ws://10.0.0.1:7880"
    ]
    assert urls(tmp_path, "{url: 'ws://10.0.0.9:7000'}") == ("ws://10.0.0.9:7000", [])


def test_livekit_url_of_a_shell_counts_only_where_dotenv_has_a_line_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_URL", "wss://of-another-project.example.com")
    assert urls(tmp_path) == ("ws://127.0.0.1:7880", [])
    (tmp_path / ".env").write_text("LIVEKIT_URL=ws://10.0.0.9:7000\n")
    url, notices = urls(tmp_path)
    assert url == "wss://of-another-project.example.com"
    assert notices == ["LIVEKIT_URL of the environment is used instead of the one in .env"]


@pytest.mark.parametrize("url", ["tcp://x", "ws://livekit.example.com"])
def test_a_wrong_livekit_url_of_dotenv_is_named_as_the_variable(tmp_path: Path, url: str) -> None:
    (tmp_path / ".env").write_text(f"LIVEKIT_URL={url}\n")
    with pytest.raises(ConfigError, match="the variable LIVEKIT_URL: "):
        urls(tmp_path)
