"""Databases that ``deploy.packages`` brings to a bare server: installed, deployed, backed up, restored."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.integration.conftest import Fleet
from tests.support import parts
from tests.support.hosts_packages import add_repository
from tests.support.servers import PROJECT, cheap_servers

PASSWORD = "p\"w $HOME 'quoted' %s"


def test_packages_of_the_distribution_bring_databases_that_are_backed_up_and_restored(
    tmp_path: Path, fleet: Fleet
) -> None:
    parts.embedded_postgresql()  # it tries the backups
    (machine,) = fleet(1)
    add_repository(machine, "redis-server", "postgresql")
    servers = cheap_servers(
        tmp_path / "servers",
        [machine],
        db={"kind": "postgres", "password": {"env": "PASSWORD"}, "database": "app"},
        kv={"kind": "redis", "password": {"env": "PASSWORD"}, "append_only": True},
    )
    servers.env["PASSWORD"] = PASSWORD
    servers.variables["deploy"]["packages"] = ["redis-server", "postgresql"]
    servers.write()
    servers.deploy()
    assert servers.deploy()["changed_count"] == 0
    ports = machine.shell("ss -Hltn | awk '{print $4}'").stdout.split()
    assert sorted(one for one in ports if one.endswith((":5432", ":6379"))) == [
        "127.0.0.1:5432",
        "127.0.0.1:6379",
    ]
    (machine.root / "srv/ask").write_text(
        f'export REDISCLI_AUTH={shlex.quote(PASSWORD)} PGPASSWORD={shlex.quote(PASSWORD)}; "$@"\n'
    )

    def ask(command: str) -> str:
        return machine.shell(f"sh /srv/ask {command}").stdout.strip()

    ask("redis-cli set greeting hello")
    ask("psql -h 127.0.0.1 -U postgres -wqc 'create table t as select 1 as x' app")
    made = servers.inv("backup", "--group", "servers", "--json").json["hosts"][machine.name]["backups"]
    assert {one["service"]: one["object_count"] for one in made} == {"db": 1, "kv": 1}
    ask("redis-cli set greeting overwritten")
    assert "kv holds 1 key" in servers.inv("restore", "--only", "kv", "--group", "servers", code=3).err
    servers.inv("restore", "--only", "kv", "--group", "servers", "--yes")
    assert ask("redis-cli get greeting") == "hello"
    machine.shell(f"systemctl restart {PROJECT}-kv")
    assert ask("redis-cli get greeting") == "hello", "the restored data outlive the next start"
    assert servers.deploy()["changed_count"] == 0
