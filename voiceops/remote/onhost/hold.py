"""Has new connections wait: they are neither refused nor cut while what they are meant for restarts.

nftables drops the first packet of each. The system that sent it sends it again after one second, then after two more and
four more, and whoever connects notices nothing but the delay. Connections within the host go on as ever: agents register
again, and deployers look who is in a room. Every port is named with a time limit that the kernel keeps, so they are
reached again whatever becomes of this program.
"""

from __future__ import annotations

from voiceops.remote.onhost.base import BEAT_S, Cancel, Failed, run_child
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.entry import answers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from voiceops.remote.unit_messages import HoldConnections

LONGEST_S = BEAT_S + 3.0
"""Of ports that nobody renews: who is killed right after a server's restart leaves agents the time to register again."""
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
def hold_connections(request: HoldConnections, channel: Channel) -> None:
    """Hold new connections until the controller hangs up, or for ``stay_s``; answer why where it can't be done.

    Afterwards their time limit runs out, unless the controller asks again, without ports: it lets them in at once.
    """
    channel.note_signals()
    table, ports = request["table"], request["ports"]
    try:
        if ports:
            hold(table, ports, LONGEST_S)
        else:
            nft(f"delete table inet {table}")
    except Failed as error:
        channel.send("done", {"held": False, "why": str(error)})
        return
    channel.send("done", {"held": bool(ports), "why": ""})
    if ports:
        channel.stay(request["stay_s"], lambda: hold(table, ports, LONGEST_S))


def hold(table: str, ports: Sequence[int], seconds: float) -> None:
    """Hold these ports for so long from now on; each time in one step, so that no packet slips through."""
    rules = RULES.format(table=table)
    # In the set its time limit counts from when it was added, and it can't be added twice.
    named = ", ".join(f"{port} timeout {seconds:g}s" for port in ports)
    nft(
        f"add table inet {table}\ndelete table inet {table}\n{rules}add element inet {table} held {{ {named} }}\n"
    )


def nft(commands: str) -> None:
    """Change the packet filter; raises ``Failed`` with what nft says, or without an nft."""
    done = run_child(["nft", "-f", "-"], Cancel(), stdin=commands.encode(), timeout_s=10.0)
    if done.code:
        raise Failed(f"nft: {done.output.strip().splitlines()[0] if done.output.strip() else done.code}")
