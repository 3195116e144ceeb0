"""From settings to programs, and when a service counts as changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from voiceops.config.shipped import find_template
from voiceops.errors import ConfigError
from voiceops.kinds.agent import AgentService, agent_environment
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService
from voiceops.kinds.model import DeclarationContext, Declared
from voiceops.kinds.release_files import release_digest, release_files
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings, Settings
from voiceops.stack import declare as stack_declare
from voiceops.stack.declare import outline

SETTINGS = Settings(
    project="test",
    livekit=LivekitSettings(url="ws://127.0.0.1:7890", api_key=Secret("key"), api_secret=Secret("s" * 32)),
    services={
        "livekit": LivekitService(binary="/bin/true"),
        "agent": AgentService(entry="agent/agent.py", agent_name="bob", max_concurrent_jobs=3),
        "web": CommandService(command=["web"], env={"TOKEN": Secret("hidden")}),
    },
)


@pytest.fixture
def context(tmp_path: Path, repository: Path) -> DeclarationContext:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "agent.py").write_text("print()\n")
    return DeclarationContext(
        settings=SETTINGS,
        root=tmp_path,
        config_folder=tmp_path / ".voiceops",
        dotenv=lambda: {"OPENAI_API_KEY": "from-dotenv", "CRM_TOKEN": "crm", "SUDO_PASSWORD": "root"},
        template=lambda name: find_template(name, [tmp_path / "templates", repository / "templates"]),
    )


def declare(settings: Settings, context: DeclarationContext) -> tuple[Declared, ...]:
    return stack_declare.declare(replace(context, settings=settings))


def named(services: tuple[Declared, ...], name: str) -> Declared:
    return next(service for service in services if service.name == name)


def server_config(settings: Settings, context: DeclarationContext) -> dict[str, Any]:
    prepare = named(declare(settings, context), "livekit").prepare
    assert prepare is not None
    argv = prepare()
    assert argv[0] == "/bin/true"
    path = Path(argv[2])
    assert path.stat().st_mode & 0o777 == 0o600
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def with_service(name: str, **changes: Any) -> Settings:
    changed = msgspec.structs.replace(SETTINGS.services[name], **changes)
    return msgspec.structs.replace(SETTINGS, services={**SETTINGS.services, name: changed})


def test_the_server_stays_on_loopback_and_sends_nobody_to_public_stun(context: DeclarationContext) -> None:
    config = server_config(SETTINGS, context)
    assert config["port"] == 7890
    assert config["bind_addresses"] == ["127.0.0.1"]
    assert config["keys"] == {"key": "s" * 32}
    assert config["rtc"]["stun_servers"] == ["127.0.0.1:9"]
    assert config["rtc"]["node_ip"] == "127.0.0.1"
    assert config["rtc"]["use_external_ip"] is False


def test_a_public_server_finds_or_is_told_its_address(context: DeclarationContext) -> None:
    config = server_config(with_service("livekit", public=True, redis="r:6379"), context)
    assert "bind_addresses" not in config
    assert config["rtc"]["use_external_ip"] is True
    assert config["redis"] == {"address": "r:6379"}
    config = server_config(with_service("livekit", public=True, node_ip="203.0.113.7"), context)
    assert (config["rtc"]["node_ip"], config["rtc"]["use_external_ip"]) == ("203.0.113.7", False)


def test_own_configuration_is_merged_over_the_template(context: DeclarationContext) -> None:
    extra: dict[str, object] = {"rtc": {"tcp_port": 1}, "room": {"max_participants": 9}}
    config = server_config(with_service("livekit", config=extra), context)
    assert config["rtc"]["tcp_port"] == 1
    assert config["rtc"]["udp_port"] == 7882
    assert config["room"] == {"max_participants": 9}


def test_no_service_gets_more_of_dotenv_than_its_kind_reads_and_it_names(context: DeclarationContext) -> None:
    before = {one.name: one for one in declare(SETTINGS, context)}
    for declared in before.values():
        assert not {"CRM_TOKEN", "SUDO_PASSWORD"} & set(declared.env), declared.name
    for name in before:
        after = named(declare(with_service(name, env_from=["CRM_*"]), context), name)
        assert (after.env["CRM_TOKEN"], "SUDO_PASSWORD" in after.env) == ("crm", False)
        assert after.digest != before[name].digest


def test_env_wins_over_env_from_and_livekit_over_both(context: DeclarationContext) -> None:
    changed = with_service("agent", env_from=["CRM_TOKEN"], env={"CRM_TOKEN": "mine"})
    assert named(declare(changed, context), "agent").env["CRM_TOKEN"] == "mine"
    with_url = {"LIVEKIT_URL": "ws://elsewhere", "CRM_TOKEN": "crm"}
    agent = AgentService(entry="agent/agent.py", env_from=["*"])
    assert agent_environment(agent, SETTINGS, with_url)["LIVEKIT_URL"] == "ws://127.0.0.1:7890"


def test_a_log_that_names_a_withheld_variable_hints_at_env_from(context: DeclarationContext) -> None:
    web = named(declare(SETTINGS, context), "web")
    assert web.missing_variable(["KeyError: 'CRM_TOKEN'"]) == (
        "CRM_TOKEN stands in .env, but web does not get it: add env_from: [CRM_TOKEN] to the service"
    )
    assert web.missing_variable(["MY_CRM_TOKEN_2 is wrong", "no variable"]) is None
    given = named(declare(with_service("web", env_from=["CRM_TOKEN"]), context), "web")
    assert given.missing_variable(["KeyError: 'CRM_TOKEN'"]) is None


def test_a_name_in_env_from_that_is_set_nowhere_is_a_configuration_error(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="CRM_TOKEM") as refused:
        declare(with_service("web", env_from=["CRM_TOKEM"]), context)
    assert refused.value.path == "services.web"


def test_a_secret_of_the_servers_configuration_is_written_and_changes_its_digest(
    context: DeclarationContext,
) -> None:
    config: dict[str, object] = {"redis": {"password": Secret("one")}, "turn": {"keys": [Secret("two")]}}
    written = server_config(with_service("livekit", config=config), context)
    assert (written["redis"], written["turn"]) == ({"password": "one"}, {"keys": ["two"]})
    before = named(declare(with_service("livekit", config=config), context), "livekit")
    config = {**config, "redis": {"password": Secret("other")}}
    assert named(declare(with_service("livekit", config=config), context), "livekit").digest != before.digest


def test_only_a_public_server_listens_for_media_over_tcp(context: DeclarationContext) -> None:
    assert server_config(SETTINGS, context)["rtc"]["tcp_port"] == 0
    assert named(outline(SETTINGS, context.root), "livekit").ports == (7890,)
    public = with_service("livekit", public=True)
    assert server_config(public, context)["rtc"]["tcp_port"] == 7881
    assert named(outline(public, context.root), "livekit").ports == (7890, 7881)


def test_an_agent_gets_livekit_dotenv_and_its_limits(context: DeclarationContext) -> None:
    agent = named(declare(SETTINGS, context), "agent")
    assert agent.argv[1:4] == ("-m", "voiceops.agentkit", "start")
    assert agent.env["LIVEKIT_URL"] == "ws://127.0.0.1:7890"
    assert agent.env["LIVEKIT_API_SECRET"] == "s" * 32
    assert agent.env["LIVEKIT_AGENT_NAME"] == "bob"
    assert agent.env["MAX_CONCURRENT_JOBS"] == "3"
    assert agent.env["OPENAI_API_KEY"] == "from-dotenv"
    assert agent.needs == ("livekit",)


@pytest.mark.parametrize(
    ("limit", "url", "redis", "told"),
    [
        (None, "ws://127.0.0.1:7890", None, "off"),
        (None, "ws://localhost:7890", None, "off"),
        (None, "ws://127.0.0.1:7890", "r:6379", "0.7"),
        (None, "wss://livekit.example.com", None, "0.7"),
        (0.85, "ws://127.0.0.1:7890", None, "0.85"),
        (1, "wss://livekit.example.com", None, "1"),
        (False, "wss://livekit.example.com", None, "off"),
        ("off", "wss://livekit.example.com", None, "off"),
    ],
)
def test_a_worker_refuses_for_its_load_only_where_another_could_take_the_call(
    limit: float | str | None, url: str, redis: str | None, told: str
) -> None:
    livekit = msgspec.structs.replace(SETTINGS.livekit, url=url)
    services = {"livekit": LivekitService(redis=redis)}
    settings = msgspec.structs.replace(SETTINGS, livekit=livekit, services=services)
    agent = AgentService(entry="agent/agent.py", load_limit=limit)
    assert agent_environment(agent, settings, {})["VOICEOPS_LOAD_LIMIT"] == told


def test_the_load_limit_of_dotenv_wins_over_the_usual_one() -> None:
    agent = AgentService(entry="agent/agent.py")
    assert agent_environment(agent, SETTINGS, {"VOICEOPS_LOAD_LIMIT": "0.5"})["VOICEOPS_LOAD_LIMIT"] == "0.5"


def test_secrets_show_in_no_repr(context: DeclarationContext) -> None:
    assert "hidden" not in repr(declare(SETTINGS, context))
    assert "s" * 32 not in repr(declare(SETTINGS, context))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("livekit", {"rtc_udp_port": 1}),
        ("livekit", {"version": "9.9.9"}),
        ("agent", {"drain_timeout_s": 1.0}),
        ("agent", {"env": {"X": "1"}}),
        ("web", {"command": ["web", "-v"]}),
        ("web", {"env": {"TOKEN": Secret("other")}}),
    ],
)
def test_a_change_of_one_service_changes_its_digest_and_no_other(
    context: DeclarationContext, name: str, changes: dict[str, Any]
) -> None:
    before = {service.name: service.digest for service in declare(SETTINGS, context)}
    after = {service.name: service.digest for service in declare(with_service(name, **changes), context)}
    assert {key for key in before if before[key] != after[key]} == {name}


def test_changed_agent_code_changes_the_agent(context: DeclarationContext) -> None:
    before = named(declare(SETTINGS, context), "agent")
    (context.root / "agent" / "prompt.txt").write_text("hello")
    after = named(declare(SETTINGS, context), "agent")
    assert before.digest != after.digest
    assert before.release != after.release


def test_looking_at_services_fetches_no_secret(context: DeclarationContext) -> None:
    def fetch() -> str:
        raise AssertionError("fetched")

    livekit = LivekitSettings(api_key=Secret.of("env:A", fetch), api_secret=Secret.of("env:B", fetch))
    services = outline(msgspec.structs.replace(SETTINGS, livekit=livekit), context.root)
    assert [service.name for service in services] == ["livekit", "agent", "web"]


def test_a_folder_that_is_missing_is_a_configuration_error(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        declare(with_service("web", cwd="nowhere"), context)


def test_a_release_leaves_out_hidden_files_bytecode_logs_and_environments(tmp_path: Path) -> None:
    for name in (
        "agent.py",
        "lib/util.py",
        ".env",
        ".git/x",
        "__pycache__/a.pyc",
        "venv/pyvenv.cfg",
        "a.log",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [path.as_posix() for path in release_files(tmp_path, ["**/*"])] == ["agent.py", "lib/util.py"]
    assert [path.as_posix() for path in release_files(tmp_path, ["lib/*"])] == ["lib/util.py"]
    digest = release_digest(tmp_path, ["**/*"])
    (tmp_path / ".env").write_text("changed")
    assert release_digest(tmp_path, ["**/*"]) == digest
    (tmp_path / "lib" / "util.py").write_text("changed")
    assert release_digest(tmp_path, ["**/*"]) != digest
