#!/usr/bin/python3 -IS
"""Runs PostgreSQL on one data folder: makes the folder on the first start, then becomes ``postgres``.

Standard library only, Python 3.9; the same program on a server and on this machine. It works in the current folder,
whose ``cluster`` holds the data, and takes the password from PGPASSWORD. Before each start it sets that password
and makes the database where there is none, by PostgreSQL's single-user mode: nobody can connect meanwhile.
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import locale
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CLUSTER = "cluster"
STEP_S = 300
"""For one step before the server starts; after a crash one of them replays what was written."""
_NEW_USER_NAMESPACE = 0x10000000
_LEAST_FREE_BYTES = 150_000_000
"""Of a new cluster: 40 MB, and as much for what is written first."""
_ACCESS = """\
# Written by voiceops when the data folder was made: nobody gets in without the password.
host all all all scram-sha-256
host replication all all scram-sha-256
local all all scram-sha-256
local replication all scram-sha-256
"""


class CannotStart(Exception):
    """Why PostgreSQL is not started, and what to do."""


def leave_root() -> None:
    """Become another user in the eyes of PostgreSQL, which refuses to run as root.

    In a user namespace of its own root has another number, and its files stay its own: no account, no other owner.
    """
    if os.geteuid() != 0:
        return
    user, group = pwd.getpwnam("nobody").pw_uid, os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER_NAMESPACE):
        why = os.strerror(ctypes.get_errno())
        raise CannotStart(
            f"PostgreSQL refuses to run as root, and no user namespace can be made ({why}): "
            "run voiceops as another user"
        )
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} 0 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def major_of(postgres: str) -> str:
    """The major version that a ``postgres`` names; empty: it can't be run."""
    try:
        done = subprocess.run([postgres, "--version"], stdout=subprocess.PIPE, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(rb"(\d+)(\.\d+|devel|beta|rc)", done.stdout)
    return found.group(1).decode() if found else ""


def data_major() -> str:
    """The major version that made the data; empty: there are none."""
    try:
        with open(f"{CLUSTER}/PG_VERSION") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def find_programs(wanted: str) -> str:
    """The folder of PostgreSQL's programs: the one of the data's version, else the newest."""
    if wanted:
        folders = [wanted]
    else:
        folders = [*glob.glob("/usr/lib/postgresql/*/bin"), *glob.glob("/usr/pgsql-*/bin"), "/usr/bin"]
    majors = {one: major_of(f"{one}/postgres") for one in folders if os.path.exists(f"{one}/postgres")}
    if not any(majors.values()):
        raise CannotStart(
            f"there is no PostgreSQL in {wanted}"
            if wanted
            else "PostgreSQL is not installed here: deploy.packages: [postgresql] in inventory.yaml installs it"
        )
    data = data_major()
    fitting = [one for one, major in majors.items() if major and data in ("", major)]
    if not fitting:
        there = ", ".join(sorted(filter(None, majors.values())))
        raise CannotStart(
            f"the data in {os.getcwd()}/{CLUSTER} are of PostgreSQL {data}, and only {there} is there: start it once "
            f"with the programs of {data} (`bin` of the service), `inv backup`, move that folder away, start, `inv restore`"
        )
    return max(fitting, key=lambda one: int(majors[one]))


def run_step(argv: Sequence[str], text: str, what: str) -> str:
    """Run one step with ``text`` as its input; returns what it printed."""
    try:
        done = subprocess.run(
            argv,
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotStart(f"{what}: not done after {STEP_S} s") from None
    shown = done.stdout.decode(errors="replace")
    if done.returncode:
        sys.stderr.write(shown)
        cause = f"{os.path.basename(argv[0])} exits {done.returncode}"
        raise CannotStart(f"{what}: {'the disk is full' if 'No space left on device' in shown else cause}")
    return shown


def make_cluster(programs: str, user: str, password: str) -> None:
    """Make the data folder beside its place, then give it its name: a start that is cut leaves none."""
    for leftover in glob.glob(f"{CLUSTER}.new-*"):
        shutil.rmtree(leftover)
    free = shutil.disk_usage(".").free
    if free < _LEAST_FREE_BYTES:
        raise CannotStart(
            f"the disk is full: a new data folder takes {_LEAST_FREE_BYTES // 1_000_000} MB, "
            f"{free // 1_000_000} MB are free in {os.getcwd()}"
        )
    folder = tempfile.mkdtemp(prefix=f"{CLUSTER}.new-", dir=".")
    argv = [f"{programs}/initdb", "-D", folder, "-U", user, "-A", "scram-sha-256", "--pwfile=/dev/stdin"]
    argv += ["-E", "UTF8", f"--locale={usual_locale()}", "--data-checksums"]
    run_step(argv, f"{password}\n", "the data folder can't be made")
    with open(f"{folder}/pg_hba.conf", "w") as file:
        file.write(_ACCESS)
    os.rename(folder, CLUSTER)


def usual_locale() -> str:
    """``C.UTF-8`` knows the letters of all languages; where the system lacks it, ``C``."""
    try:
        locale.setlocale(locale.LC_ALL, "C.UTF-8")
    except locale.Error:
        return "C"
    return "C.UTF-8"


def forget_dead_server() -> None:
    """Remove the note of a server that is gone, if its number is a zombie's or another program's by now.

    PostgreSQL takes any process of that number for the server. Whether children of it still use the data it finds
    out by their shared memory, and then refuses.
    """
    path = f"{CLUSTER}/postmaster.pid"
    try:
        with open(path) as file:
            pid = int(file.readline())
        with open(f"/proc/{pid}/stat") as file:
            program, _, rest = file.read().partition("(")[2].rpartition(")")
    except (OSError, ValueError):
        return  # nobody has that number: PostgreSQL itself removes the note
    if program != "postgres" or rest.split()[0] in ("Z", "X"):
        os.unlink(path)


def set_access(server: Sequence[str], user: str, password: str, database: str) -> None:
    """Set the password of ``user``, and make ``database`` where there is none; both names are plain words."""
    # Whatever the configuration says: a statement with the password must not reach the log.
    silent = [
        "-c",
        "log_statement=none",
        "-c",
        "log_min_error_statement=panic",
        "-c",
        "log_min_duration_statement=-1",
    ]
    single = [server[0], "--single", "-j", *server[1:], *silent, "postgres"]
    quoted = password.replace("'", "''")
    statements = [
        f"DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{user}') "
        f"""THEN CREATE ROLE "{user}" SUPERUSER; END IF; END$$""",
        f"""ALTER ROLE "{user}" LOGIN PASSWORD '{quoted}'""",
        f"SELECT 'found' AS database FROM pg_database WHERE datname = '{database}'",
    ]
    shown = run_step(single, "".join(f"{one};\n\n" for one in statements), "the password can't be set")
    if "ERROR:" in shown:
        sys.stderr.write(shown)
        raise CannotStart("the password can't be set")
    if '"found"' not in shown:
        run_step(single, f'CREATE DATABASE "{database}";\n\n', f"the database {database} can't be made")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default="")
    parser.add_argument("--user", default="postgres")
    parser.add_argument("--database", default="postgres")
    parser.add_argument("config")
    arguments = parser.parse_args(argv)
    os.umask(0o077)
    password = os.environ.pop("PGPASSWORD", "")
    # A signal before the server is there ends this program and its step: nothing is half done that counts.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        leave_root()
        programs = find_programs(arguments.bin)
        if not data_major():
            make_cluster(programs, arguments.user, password)
        forget_dead_server()
        server = [f"{programs}/postgres", "-D", CLUSTER, "-c", f"config_file={arguments.config}"]
        set_access(server, arguments.user, password, arguments.database)
        os.execv(server[0], server)
    except (CannotStart, OSError, subprocess.SubprocessError) as error:
        print(f"PostgreSQL can't be started: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
