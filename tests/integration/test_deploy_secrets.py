"""No secret is anywhere but where it is needed: from the first deploy on, whatever is printed and whoever looks."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support import hosts, leaks
from tests.support.servers import PROJECT, Servers, agent_servers, sleeper

TONE = Path(__file__).parent / "agents" / "tone.py"
PLACES = tuple(
    f"/etc/{PROJECT}/{name}" for name in ("livekit.yaml", "agent/", "cleanup-rooms.env", "web.env")
)
CLOSED = "0 -rw-------"
USERS = ("root", f"vo-{PROJECT}")
API_SECRET = "first-api-secret-that-nobody-may-see-0001"
TOKEN = "crm-token-that-nobody-may-see-0002"
OTHER = "another-crm-token-that-nobody-sees-0003"
WORD = "word-of-a-command-that-nobody-sees-0004"
CANARY = "canary-that-must-be-found-everywhere-0005"
DOTENV = {
    "SUDO_PASSWORD": hosts.SUDO_PASSWORD,
    "INDEX_URL": "https://me:password-of-the-index-0006@index.example",
    "SHOP_TOKEN": "token-of-the-shop-that-nobody-sees-0007",
}
SECRETS = [API_SECRET, TOKEN, OTHER, WORD, *DOTENV.values()]


@pytest.fixture(scope="module")
def host(prepared_host: hosts.Machine) -> hosts.Machine:
    """With an agent's environment on it."""
    return prepared_host


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine) -> Servers:
    """A host without any of the secrets, reached as a user whose sudo wants a password."""
    web = sleeper(env={"WORD": {"env": "WORD"}})
    made = agent_servers(tmp_path_factory.mktemp("secrets") / "project", [host], TONE, web=web)
    made.variables |= {"ansible_user": "pwsudo", "ansible_become_password": {"env": "SUDO_PASSWORD"}}
    made.variables["services"]["agent"]["env"] = {"CRM_TOKEN": {"env": "CRM_TOKEN"}}
    made.env |= {
        "LIVEKIT_API_SECRET": API_SECRET,
        "CRM_TOKEN": TOKEN,
        "WORD": WORD,
        "SUDO_PASSWORD": hosts.SUDO_PASSWORD,
    }
    made.variables["services"]["agent"]["env_from"] = ["SHOP_*"]
    (made.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in DOTENV.items()))
    made.write()
    return made


@pytest.fixture(scope="module")
def story(servers: Servers) -> tuple[str, leaks.Sampler]:
    """The first deploy, a changed secret, and every command that shows what is there: all that they printed."""
    group = ("--group", "servers")
    with leaks.Sampler([*SECRETS, "eyJhbGci"]) as sampler:  # what a token for LiveKit begins with
        said = [servers.inv("deploy", *group, "--diff", "--debug")]
        servers.env["CRM_TOKEN"] = OTHER
        said.append(servers.inv("deploy", *group, "--check", "--diff", "--debug", code=2))
        said.append(servers.inv("drift", *group, "--diff", "--json", code=2))
        said.append(servers.inv("deploy", *group, "--diff", "--json", "--no-call"))
        for command in (
            ("render", *group),
            ("render", *group, "--out", "rendered"),
            ("status", *group, "--json"),
            ("releases", *group, "--json"),
            ("check-running", *group, "--debug"),
            ("logs", *group, "--raw"),
            ("why", *group, "--json"),
            ("inventory", "--list"),
            ("inventory", "--host", servers.machines[0].name),
        ):
            said.append(servers.inv(*command, code=None))
        servers.env["SUDO_PASSWORD"] = f"wrong {hosts.SUDO_PASSWORD}"
        said.append(servers.inv("deploy", *group, "--debug", code=5))
    return "\n".join(one.out + one.err for one in said), sampler


@pytest.mark.timeout(480)
def test_no_command_prints_a_secret(story: tuple[str, leaks.Sampler]) -> None:
    said, _ = story
    assert len(said) > 5000
    assert [one for one in (*SECRETS, json.dumps(hosts.SUDO_PASSWORD)[1:-1]) if one in said] == []


def test_no_secret_was_in_the_arguments_of_a_process_here_or_there(story: tuple[str, leaks.Sampler]) -> None:
    _, sampler = story
    assert sampler.samples > 100
    assert sampler.found == set()


def test_no_secret_is_in_a_file_but_where_only_root_reads_it(
    story: tuple[str, leaks.Sampler], host: hosts.Machine
) -> None:
    found = leaks.files(host, SECRETS)
    assert {path: how for path, how in found.items() if not (path.startswith(PLACES) and how == CLOSED)} == {}
    # Each is where it is needed: the scan does read the files that it should.
    assert {f"/etc/{PROJECT}/livekit.yaml", f"/etc/{PROJECT}/web.env"} < set(found)


def test_no_secret_is_in_units_or_in_the_journal(
    story: tuple[str, leaks.Sampler], host: hosts.Machine
) -> None:
    assert leaks.units_and_journal(host, SECRETS) == []


def test_no_secret_is_in_the_environment_of_a_process_of_others(
    story: tuple[str, leaks.Sampler], host: hosts.Machine
) -> None:
    assert leaks.environments(host, SECRETS, USERS) == []
    assert leaks.environments(host, SECRETS, ()), "the services have theirs"


def test_a_service_gets_of_dotenv_what_it_names_and_nothing_else(
    story: tuple[str, leaks.Sampler], host: hosts.Machine
) -> None:
    # Of processes, and of files: what a service does not name is nowhere on the host.
    assert leaks.environments(host, [DOTENV["SHOP_TOKEN"]], ())
    kept_here = [DOTENV["INDEX_URL"], DOTENV["SUDO_PASSWORD"]]
    assert leaks.environments(host, kept_here, ()) == []
    assert leaks.files(host, kept_here) == {}
    units = "systemctl show -P MainPID frontdesk-web frontdesk-livekit | grep ."
    for pid in host.shell(units).stdout.split():
        environment = host.shell(f"tr '\\0' '\\n' < /proc/{pid}/environ").stdout
        assert "SHOP_TOKEN" not in environment
        assert "CRM_TOKEN" not in environment


def test_no_secret_is_left_on_this_machine(story: tuple[str, leaks.Sampler], servers: Servers) -> None:
    assert (servers.folder / "rendered").is_dir()
    assert leaks.in_folder(servers.folder, SECRETS, ours=[".env"]) == []
    (servers.folder / "canary").write_text(TOKEN)
    assert leaks.in_folder(servers.folder, SECRETS, ours=[".env"]) == ["canary"]


def test_a_secret_where_it_must_not_be_is_found(host: hosts.Machine) -> None:
    with leaks.planted(host, CANARY), leaks.Sampler([CANARY]) as sampler:
        found = leaks.files(host, [CANARY])
        assert found.pop("/var/tmp/open") == "0 -rw-r--r--"
        assert {"/etc/systemd/system/canary.service", "/run/canary"} <= set(found)
        assert any("canary" in line for line in leaks.units_and_journal(host, [CANARY]))
        assert leaks.environments(host, [CANARY], USERS)
        ends_at = time.monotonic() + 10
        while not sampler.found and time.monotonic() < ends_at:
            time.sleep(0.05)
    assert sampler.found
