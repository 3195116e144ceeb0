"""What a controller needs to know of a host before it decides what to send."""

from __future__ import annotations

import os
import sys

from voiceops.remote.onhost.base import PAYLOAD_FORMAT
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.entry import answers
from voiceops.remote.onhost.state_folder import read_lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import HostFacts, HostRequest


@answers("host.facts")
def host_facts(request: HostRequest, channel: Channel) -> HostFacts:
    """Return Python, architecture and system, and who holds the lock."""
    import platform

    release: dict[str, str] = {}
    try:
        with open("/etc/os-release") as file:
            pairs = (line.rstrip("\n").split("=", 1) for line in file if "=" in line)
            release = {key: value.strip('"') for key, value in pairs}
    except OSError:
        pass
    return {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "machine": platform.machine(),
        "libc": list(platform.libc_ver()),
        "os": release.get("ID", ""),
        "os_version": release.get("VERSION_ID", ""),
        "hostname": platform.node(),
        "uid": os.getuid(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "format": PAYLOAD_FORMAT,
        "lease": read_lease(os.path.join(request["state_dir"], "lock")),
    }
