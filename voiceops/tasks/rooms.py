"""The room library, by hand and from cron."""

from __future__ import annotations

from invoke import Collection

from voiceops.cli.command import TARGETS, CommandRun, Report, command

_YES = "Even if a person is in the room: the call is cut off."
_ROOM = "Name of the room."
_AGENT = "Name of the agent (default: the one that the inventory declares)."


@command(
    *TARGETS,
    "timeout",
    "check",
    "yes",
    name="cleanup-rooms",
    help={
        "all": "Delete all rooms but those of the keep patterns; with live calls it needs --yes.",
        "quiet": "Print nothing unless something failed: for cron.",
    },
)
def cleanup_rooms(run: CommandRun, all_: bool = False, quiet: bool = False) -> Report:
    """Delete the rooms that nobody uses, and say why for each room kept or deleted.

    Example: inv cleanup-rooms --check
    """
    from voiceops.commands import rooms

    return rooms.cleanup(run, every=all_, quiet=quiet)


@command(*TARGETS, "timeout")
def list_(run: CommandRun) -> Report:
    """List all rooms, with who is in them.

    Example: inv rooms.list --json
    """
    from voiceops.commands import rooms

    return rooms.list_rooms(run)


@command(*TARGETS, "timeout", help={"room": _ROOM})
def show(run: CommandRun, room: str) -> Report:
    """Show one room: who is in it, and which agents were dispatched to it.

    Example: inv rooms.show front-desk
    """
    from voiceops.commands import rooms

    return rooms.show(run, room)


@command(*TARGETS, "timeout", "yes", help={"room": _ROOM, "yes": _YES})
def delete(run: CommandRun, room: str) -> Report:
    """Delete one room; nothing to do if there is none.

    Example: inv rooms.delete front-desk
    """
    from voiceops.commands import rooms

    return rooms.delete(run, room)


@command(*TARGETS, "timeout", help={"room": _ROOM, "identity": "Identity of the participant."})
def kick(run: CommandRun, room: str, identity: str) -> Report:
    """Disconnect one participant; nothing to do if it is not there.

    Example: inv rooms.kick front-desk monitor-7
    """
    from voiceops.commands import rooms

    return rooms.kick(run, room, identity)


@command(*TARGETS, "timeout", "yes", help={"room": _ROOM, "yes": _YES})
def ensure_clean(run: CommandRun, room: str) -> Report:
    """Delete a room unless it is fresh, so that the next caller gets a new one.

    Example: inv rooms.ensure-clean front-desk
    """
    from voiceops.commands import rooms

    return rooms.ensure_clean(run, room)


@command(
    *TARGETS,
    "timeout",
    help={
        "room": _ROOM,
        "agent": _AGENT,
        "metadata": "Text that the agent's job gets.",
        "wait": "Wait until the agent is ready; if it does not come, a room made for it goes again.",
    },
)
def dispatch(
    run: CommandRun, room: str, agent: str | None = None, metadata: str = "", wait: bool = False
) -> Report:
    """Dispatch one agent to a room, unless one is there or on its way.

    Example: inv rooms.dispatch front-desk --wait
    """
    from voiceops.commands import rooms

    return rooms.dispatch(run, room, agent, metadata=metadata, wait=wait)


@command(*TARGETS, "timeout", name="wait-agent", help={"room": _ROOM, "agent": _AGENT})
def wait_agent(run: CommandRun, room: str, agent: str | None = None) -> Report:
    """Wait until an agent in the room is ready, or say why none is.

    Example: inv rooms.wait-agent front-desk --timeout 15
    """
    from voiceops.commands import rooms

    return rooms.wait_agent(run, room, agent)


@command(*TARGETS, "timeout")
def selftest(run: CommandRun) -> Report:
    """Test the room library on the configured server, in rooms of its own; run it after an upgrade.

    Example: inv rooms.selftest
    """
    from voiceops.commands import rooms

    return rooms.selftest(run)


collection = Collection("rooms")
for _task, _name in (
    (list_, "list"),
    (show, "show"),
    (delete, "delete"),
    (kick, "kick"),
    (ensure_clean, "ensure-clean"),
    (dispatch, "dispatch"),
    (wait_agent, "wait-agent"),
    (selftest, "selftest"),
):
    collection.add_task(_task, name=_name)
