"""The kind ``postgres`` on a server: the distribution's programs, a cluster and a unit of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.integration.conftest import Fleet
from tests.support import hosts, parts
from tests.support.servers import PROJECT, Servers, cheap_servers

PASSWORD = "p\"w $HOME 'quoted' \\ `id` %s"


def bring_postgresql(machine: hosts.Machine) -> None:
    """Debian's PostgreSQL with the libraries that the host lacks: it has no internet."""
    programs = parts.postgresql()
    for folder in (programs.parent, Path("/usr/share/postgresql") / programs.parent.name):
        shutil.copytree(folder, machine.root / str(folder).lstrip("/"), symlinks=True)
    for program in ("psql", "pg_dump", "pg_restore"):
        (machine.root / "usr/bin" / program).symlink_to(programs / program)
    for program in ("postgres", "psql", "pg_dump", "initdb"):
        listed = subprocess.run(
            ["ldd", programs / program], capture_output=True, text=True, check=True
        ).stdout
        for line in listed.splitlines():
            name, _, rest = line.strip().partition(" => ")
            path = rest.partition(" (")[0]
            target = machine.root / "usr/local/lib" / name
            if path and not target.exists() and not (machine.root / path.lstrip("/")).exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(os.path.realpath(path), target)
    machine.shell("ldconfig")


def causes(servers: Servers) -> list[str]:
    """What ``why`` says of the host."""
    document = servers.inv("why", "--group", "servers", "--json", code=None).json
    return [one["cause"] for one in document["findings"]]


def test_a_deploy_makes_a_cluster_of_its_own_and_keeps_it(tmp_path: Path, fleet: Fleet) -> None:
    parts.embedded_postgresql()  # it tries the backups
    (machine,) = fleet(1)
    db = {"kind": "postgres", "password": {"env": "DB"}, "database": "letta", "config": {"work_mem": "8MB"}}
    servers = cheap_servers(tmp_path / "servers", [machine], db=db)
    servers.env["DB"] = PASSWORD
    refused = servers.inv("deploy", "--group", "servers", code=1)
    assert "deploy.packages: [postgresql]" in refused.out + refused.err
    bring_postgresql(machine)
    servers.deploy()
    (machine.root / "srv/ask").write_text(
        "import os, subprocess, sys\n"
        f"env = {{**os.environ, 'PGPASSWORD': {PASSWORD!r}}}\n"
        "argv = ['psql', '-Xwqtc', sys.argv[1], '-h', '127.0.0.1', '-U', 'postgres', 'letta']\n"
        "sys.exit(subprocess.run(argv, env=env).returncode)\n"
    )
    machine.shell("python3 /srv/ask 'create table t as select 1 as x'")
    assert machine.shell("python3 /srv/ask 'show work_mem'").stdout.strip() == "8MB"
    owner = machine.shell(f"stat -c '%a %U' /var/lib/{PROJECT}/db/cluster").stdout.split()
    assert owner == ["700", f"vo-{PROJECT}"]
    pid = machine.shell(f"systemctl show -P MainPID {PROJECT}-db").stdout.strip()
    assert servers.deploy()["changed_count"] == 0
    assert causes(servers) == []
    servers.env["DB"] = "another one, not deployed"
    (changed,) = causes(servers)
    assert "db refuses the password of the inventory, which was changed since it was deployed" in changed
    servers.env["DB"] = PASSWORD
    machine.shell(f"kill -STOP {pid}")
    assert causes(servers) == ["db is frozen (its process is stopped, state T)."]
    machine.shell(f"kill -CONT {pid}")
    with machine.small_disk(f"/var/lib/{PROJECT}/db", 1 << 16):
        machine.shell(f"dd if=/dev/zero of=/var/lib/{PROJECT}/db/filler bs=4096", check=False)
        assert causes(servers) == ["The disk of the data of db is full: db can't write."]
    machine.shell(f"kill -9 {pid}")
    servers.inv("start", "--group", "servers")
    assert machine.shell("python3 /srv/ask 'select x from t'").stdout.strip() == "1"
    (made,) = servers.inv("backup", "--group", "servers", "--json").json["hosts"][machine.name]["backups"]
    assert made["object_count"] == 1
    assert Path(made["file"]).is_relative_to(servers.folder / ".voiceops/backups" / machine.name)
    machine.shell("python3 /srv/ask 'delete from t'")
    assert "db holds 1 table" in servers.inv("restore", "--group", "servers", code=3).err
    servers.inv("restore", "--group", "servers", "--yes")
    assert machine.shell("python3 /srv/ask 'select x from t'").stdout.strip() == "1"
    machine.shell(f"echo 'work_mem = 9MB' >> /etc/{PROJECT}/db.conf")
    assert f"/etc/{PROJECT}/db.conf" in servers.inv("drift", "--group", "servers", code=2).out
    servers.inv("stop", "--group", "servers")
    journal = machine.journal("-u", f"{PROJECT}-db", "-o", "cat")
    assert "received fast shutdown request" in journal
    assert PASSWORD not in journal
