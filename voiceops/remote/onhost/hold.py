"""Has new connections wait: they are neither refused nor cut while what they are meant for restarts.

nftables drops the first packet of each. The system that sent it sends it again after one second and after three, and
whoever connects notices nothing but the delay. Connections within the host go on as ever: agents register again, and
deployers look who is in a room. Every port is named with a time limit that the kernel keeps, so they are reached again
whatever becomes of whoever asked for it.
"""

from __future__ import annotations

from voiceops.remote.onhost.base import Cancel, Failed, run_child
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.entry import answers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from voiceops.remote.unit_messages import HoldAnswer, HoldConnections

HELD_S = 3.0
"""The next packet after that comes four seconds later, and LiveKit's clients wait five for a connection."""
RULES = """\
table inet {table} {{
 set held {{ type inet_service; flags timeout; }}
 chain input {{
  type filter hook input priority -10; policy accept;
  iifname != "lo" tcp dport @held tcp flags & (syn | ack) == syn drop
 }}
}}
"""


@answers("connections.hold")
def hold_connections(request: HoldConnections, channel: Channel) -> HoldAnswer:
    """Hold new connections for ``HELD_S``, or let them in at once; answer why where it can't be done."""
    try:
        if request["ports"]:
            hold(request["table"], request["ports"])
        else:
            let_in(request["table"])
    except Failed as error:
        return {"held": False, "why": str(error)}
    return {"held": bool(request["ports"]), "why": ""}


def hold(table: str, ports: Sequence[int]) -> None:
    """Hold these ports from now on; raises ``Failed`` without an nft."""
    named = ", ".join(f"{port} timeout {HELD_S:g}s" for port in ports)
    nft(
        f"add table inet {table}\ndelete table inet {table}\n{RULES.format(table=table)}"
        f"add element inet {table} held {{ {named} }}\n"
    )


def let_in(table: str) -> None:
    """Hold none of them any more."""
    nft(f"delete table inet {table}")


def nft(commands: str) -> None:
    """Change the packet filter; raises ``Failed`` with what nft says, or without an nft."""
    done = run_child(["nft", "-f", "-"], Cancel(), stdin=commands.encode(), timeout_s=10.0)
    if done.code:
        raise Failed(f"nft: {done.output.strip().splitlines()[0] if done.output.strip() else done.code}")
