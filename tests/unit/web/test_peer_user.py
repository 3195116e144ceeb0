"""Whose program is at the other end of a connection on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from voiceops.web.peer_user import is_same_user, owner_of

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: 0100007F:{port:04X} 0100007F:22B8 01 00000000:00000000 00:00000000 00000000 {uid:>5}        0 1 1\n"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux has this table")
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_of_our_own_is_ours(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener, socket.socket(family) as client:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"no {address} here")
        listener.listen()
        client.connect(listener.getsockname())
        peer = client.getsockname()[:2]
        assert owner_of(peer) == os.geteuid()
        assert is_same_user(peer)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux has this table")
def test_one_of_another_user_and_one_that_is_not_there_are_not(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(HEAD + LINE.format(port=4000, uid=os.geteuid() + 1) + LINE.format(port=4001, uid=0))
    tables = {4: table, 6: tmp_path / "missing"}
    assert not is_same_user(("127.0.0.1", 4000), tables)
    assert is_same_user(("127.0.0.1", 4001), tables)
    assert not is_same_user(("127.0.0.1", 4002), tables)
    assert not is_same_user(("::1", 4000), tables)
