"""A task of one's own from voiceops' resources: ``inv harden --host web1 --check --diff``.

A resource of one's own is a function that returns resources: ``sshd`` and ``firewall_log``
below are two. Copy this beside your inventory.yaml, or add ``harden`` to your tasks.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voiceops.cli.command import TARGETS, CommandRun, Report, command
from voiceops.tasks import namespace

if TYPE_CHECKING:
    from voiceops.model.settings import Host
    from voiceops.resources import Resource

SSHD = """\
PasswordAuthentication no
PermitRootLogin {{ root_login }}
MaxAuthTries 3
"""
KERNEL = {"kernel.kptr_restrict": "2", "net.ipv4.conf.all.rp_filter": "1"}


@command(*TARGETS, "check", "diff", help={"accept-new": "Trust hosts that are seen for the first time."})
def harden(run: CommandRun, accept_new: bool = False) -> Report:
    """Close what a voice host does not need.

    Example: inv harden --group voice --check --diff
    """
    from voiceops.tasks.resources import bring_hosts

    return bring_hosts(run, hardened, reason="harden", accept_new=accept_new)


def hardened(host: Host) -> list[Resource]:
    """All of it, for one host; its inventory variables decide the details."""
    from voiceops.resources import Sysctl

    root_login = str(host.vars.get("root_login", "prohibit-password"))
    return [
        *sshd(root_login),
        *journal_limits("500M"),
        Sysctl(path="/etc/sysctl.d/70-harden.conf", values=KERNEL),
    ]


def sshd(root_login: str) -> list[Resource]:
    """A drop-in that sshd itself checks, and a reload when it changed: nobody is logged out."""
    from voiceops.resources import Command, Template, Unit

    drop_in = Template(
        path="/etc/ssh/sshd_config.d/10-harden.conf",
        template=SSHD,
        variables={"root_login": root_login},
        owner="root",
        mode=0o644,
        validate=["sshd", "-t", "-f", "{file}"],
    )
    whole = Command(name="sshd accepts all of it", argv=["sshd", "-t"], on_change=[drop_in])
    return [drop_in, whole, Unit(name="ssh.service", running=True, reload_on=[drop_in], needs=[whole])]


def journal_limits(size: str) -> list[Resource]:
    """Logs that can't fill the disk."""
    from voiceops.resources import Directory, File, Unit

    folder = Directory(path="/etc/systemd/journald.conf.d")
    limits = File(path=f"{folder.path}/size.conf", content=f"[Journal]\nSystemMaxUse={size}\n", mode=0o644)
    return [folder, limits, Unit(name="systemd-journald.service", running=True, restart_on=[limits])]


namespace.add_task(harden)
