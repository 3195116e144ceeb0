"""apt as it is found on servers: with a source that is broken."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.support import hosts
from tests.support.hosts_packages import add_repository, build_deb
from tests.support.hosts_ssh import target
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.resources import Package, State, apply


def wants(name: str) -> State:
    return State("packages", [Package(names=[name])])


def test_a_broken_source_is_not_in_the_way_and_explains_what_is_not_found(
    fresh_host: hosts.Machine, tmp_path: Path
) -> None:
    add_repository(fresh_host, own=[build_deb(tmp_path, "small")])
    fresh_host.write("/etc/apt/sources.list.d/broken.list", "deb [trusted=yes] file:/srv/no-such-place ./\n")
    with closing(SshTransport(target(fresh_host))) as transport:
        apply(transport, wants("small")).raise_for_failure()
        log = apply(transport, wants("voiceops-nonesuch")).results[0].log
        assert any("/srv/no-such-place" in line for line in log)
        assert any("Unable to locate package voiceops-nonesuch" in line for line in log)
        assert apply(transport, wants("small")).changed == 0
