"""Owner, mode, ACL and labels of a file that is replaced on a real host."""

from __future__ import annotations

import random
from pathlib import Path

from tests.integration.test_resources_hosts import state
from tests.support import hosts
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.resources import (
    Blob,
    File,
    apply,
)

LABEL = """
import os, struct, sys
path = sys.argv[1]
entries = [(1, 6, -1), (2, 6, 1000), (4, 4, -1), (16, 6, -1), (32, 0, -1)]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
os.setxattr(path, "system.posix_acl_access", acl)
os.setxattr(path, "security.ima", b"a hash of the old content")
os.setxattr(path, "security.selinux", b"system_u:object_r:etc_t:s0\\0")
os.setxattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
"""
SHOW = """
import os, sys
found = os.stat(sys.argv[1])
print(found.st_uid, found.st_gid, oct(found.st_mode & 0o7777), *sorted(os.listxattr(sys.argv[1])))
print(os.getxattr(sys.argv[1], "security.selinux"))
"""


def test_a_replaced_file_keeps_owner_mode_acl_and_label_but_not_what_vouches_for_its_content(
    host: hosts.Machine, transport: SshTransport, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(random.Random(7).randbytes(2 << 20))  # it arrives by a rename
    host.shell(
        "mkdir -p /srv/labels; cd /srv/labels; touch file big; chown 1000:33 file big; chmod 2640 file big"
    )
    for name in ("file", "big"):
        host.shell(f"python3 -c '{LABEL}' /srv/labels/{name}")
    file = File(path="/srv/labels/file", content="new")
    blob = Blob(path="/srv/labels/big", source=tmp_path / "big", mode=None)
    apply(transport, state(file, blob, project="labels")).raise_for_failure()
    for name in ("file", "big"):
        shown = host.shell(f"python3 -c '{SHOW}' /srv/labels/{name}").stdout.splitlines()
        assert shown == [
            "1000 33 0o2660 security.selinux system.posix_acl_access",
            r"b'system_u:object_r:etc_t:s0\x00'",
        ]
    assert apply(transport, state(file, blob, project="labels")).changed == 0


def test_a_declared_mode_wins_over_the_acl_of_the_file_before(
    host: hosts.Machine, transport: SshTransport
) -> None:
    host.shell("touch /srv/closed")
    host.shell(f"python3 -c '{LABEL}' /srv/closed")
    closed = state(File(path="/srv/closed", content="new", mode=0o600), project="closed")
    apply(transport, closed).raise_for_failure()
    assert host.shell("stat -c %a /srv/closed").stdout == "600\n"
    assert apply(transport, closed).changed == 0


DEFAULT_ACL = """
import os, struct
entries = (1, 6), (2, 4, 65534), (4, 4), (16, 4), (32, 0)
packed = [struct.pack("<HHI", tag, rights, *(who or [0xFFFFFFFF])) for tag, rights, *who in entries]
os.setxattr("/srv/shared", "system.posix_acl_default", struct.pack("<I", 2) + b"".join(packed))
"""


def test_a_folder_that_gives_an_acl_to_new_files_gives_none_to_a_replaced_one(
    host: hosts.Machine, transport: SshTransport
) -> None:
    host.write("/srv/shared/plain", "old", mode=0o600)
    host.shell("python3 -", input=DEFAULT_ACL)
    files = [File(path=f"/srv/shared/{name}", content="new") for name in ("plain", "fresh")]
    apply(transport, state(*files, project="shared")).raise_for_failure()
    show = "import os; print(*(os.listxattr('/srv/shared/' + name) for name in ('plain', 'fresh')))"
    listed = host.shell(f'python3 -c "{show}"')
    assert listed.stdout == "[] ['system.posix_acl_access']\n"
    assert host.shell("stat -c %a /srv/shared/plain").stdout == "600\n"
    assert apply(transport, state(*files, project="shared")).changed == 0
