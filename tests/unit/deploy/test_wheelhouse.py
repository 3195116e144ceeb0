"""What wheels run on a host, from what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from voiceops.deploy.wheelhouse import HostPlatform
from voiceops.errors import ConfigError

DEBIAN_12 = {"hostname": "web1", "machine": "aarch64", "libc": ["glibc", "2.36"], "python": [3, 11, 2]}


def test_the_platform_is_the_hosts_not_ours() -> None:
    facts = HostPlatform.of(DEBIAN_12)
    assert (facts.version, facts.platform) == ("3.11", "aarch64-manylinux_2_36")


def test_wheels_for_an_older_c_library_run_and_those_for_a_newer_one_do_not() -> None:
    tags = HostPlatform.of(DEBIAN_12 | {"libc": ["glibc", "2.31"]}).tags()
    assert {"manylinux_2_17_aarch64", "manylinux_2_31_aarch64", "manylinux2014_aarch64"} <= set(tags)
    assert "manylinux_2_32_aarch64" not in tags
    assert not [tag for tag in tags if "x86_64" in tag]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"python": [3, 9, 2]}, "Python 3.9; agents need 3.10"),
        ({"machine": "armv7l"}, "armv7l"),
        ({"libc": ["musl", "1.2"]}, "musl"),
        ({"libc": ["", ""]}, "an unknown C library"),
    ],
)
def test_a_host_without_wheels_is_told_so_and_what_has_them(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        HostPlatform.of(DEBIAN_12 | said)
    assert refused.value.hint
