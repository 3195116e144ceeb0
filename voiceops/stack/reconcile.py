"""The one decision: declared services, observed services -> what to do, in order, and why.

Everything that starts or stops a service asks here and acts through a ``Backend``; the
functions are pure, so each rule is tested without a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from voiceops.errors import StrayError, UsageError
from voiceops.kinds.model import Declared
from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed, Stray
from voiceops.util.order import CircularNeedsError, needed_first
from voiceops.util.suggest import did_you_mean


class Verb(str, Enum):
    """What is done with one service."""

    KEEP = "keep"
    WAIT = "wait"
    """It is on its way: wait until it is ready."""
    START = "start"
    RESTART = "restart"
    """End the old one, then start the new one."""
    OVERLAP = "overlap"
    """Start the new one, and when it is ready let the old one drain: no join is lost."""
    STOP = "stop"
    REFUSE = "refuse"
    """A stray is in the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One decision, with its reason for people."""

    service: str
    verb: Verb
    reason: str = ""
    instance: Instance | None = None
    """The run that is kept, waited for, or replaced."""
    extra: tuple[Instance, ...] = ()
    """Runs to end before anything else: duplicates, and what is no longer declared."""
    mute: tuple[Instance, ...] = ()
    """Draining agents that don't answer: they never finish by themselves, so they end if they have no call."""
    strays: tuple[Stray, ...] = ()
    gently: bool = False
    """Ends agents by draining in the background: nobody asked for an end to their calls."""
    renew: bool = False
    """An agent whose server restarts: wait until it has registered anew."""

    @property
    def changes(self) -> bool:
        """Whether carrying it out changes anything."""
        return self.verb not in (Verb.KEEP, Verb.WAIT) or bool(self.extra or self.strays)

    @property
    def ended(self) -> tuple[Instance, ...]:
        """The runs that this ends, at once or after their calls."""
        replaced = self.verb in (Verb.RESTART, Verb.OVERLAP, Verb.STOP) and self.instance is not None
        return (*self.extra, *((self.instance,) if replaced and self.instance else ()))


def in_order(services: Iterable[Declared]) -> list[Declared]:
    """Dependencies first, otherwise as declared; ``UsageError`` for a circle."""
    by_name = {service.name: service for service in services}
    try:
        return [by_name[name] for name in needed_first({name: one.needs for name, one in by_name.items()})]
    except CircularNeedsError as circle:
        raise UsageError(f"services need each other in a circle: {circle}") from None


def choose(services: Sequence[Declared], only: Sequence[str]) -> list[Declared]:
    """Those that are named, all when none is; ``UsageError`` for a name that nothing has."""
    refuse_unknown(only, {service.name for service in services})
    return [service for service in in_order(services) if not only or service.name in only]


def refuse_unknown(only: Sequence[str], known: set[str]) -> None:
    """``UsageError`` for a name that no service has."""
    for name in only:
        if name not in known:
            raise UsageError(f"no service {name!r} here", hint=did_you_mean(name, known))


def plan_start(
    services: Sequence[Declared],
    observed: Mapping[str, Observed],
    *,
    only: Sequence[str] = (),
    replace_strays: bool = False,
    renew: bool = False,
    beside: bool = False,
) -> tuple[Action, ...]:
    """What makes the stack run as declared; ``renew`` replaces also what runs well (``restart``).

    ``beside``: an agent without calls is renewed by overlap as well, as the next call may come at any moment.
    What a named service needs is started with it, but only restarted when it is named.
    """
    chosen = {service.name for service in choose(services, only)}
    wanted = _with_needs(services, chosen)
    actions: dict[str, Action] = {}
    servers: set[str] = set()
    for service in in_order(services):
        if service.name not in wanted:
            continue
        restarted = any(
            actions[need].verb in (Verb.START, Verb.RESTART) for need in service.needs if need in servers
        )
        if service.role is Role.SERVER:
            servers.add(service.name)
        actions[service.name] = _plan_one(
            service,
            observed.get(service.name, Observed()),
            replace_strays=replace_strays,
            renew=renew and service.name in chosen,
            beside=beside,
            server_restarts=restarted and service.is_agent,
        )
    gone = () if only else _undeclared(services, observed)
    return (*gone, *actions.values())


def _with_needs(services: Sequence[Declared], names: set[str]) -> set[str]:
    by_name = {service.name: service for service in services}
    wanted = set(names)
    waiting = list(names)
    while waiting:
        for need in by_name[waiting.pop()].needs:
            if need in by_name and need not in wanted:
                wanted.add(need)
                waiting.append(need)
    return wanted


def _plan_one(
    service: Declared,
    seen: Observed,
    *,
    replace_strays: bool,
    renew: bool,
    beside: bool,
    server_restarts: bool,
) -> Action:
    name = service.name
    foreign = tuple(stray for stray in seen.strays if stray.foreign_owner)
    if foreign or (seen.strays and not replace_strays):
        refused = foreign or seen.strays
        return Action(service=name, verb=Verb.REFUSE, reason=refused[0].reason, strays=refused)
    strays = seen.strays
    mute = tuple(one for one in seen.draining if one.calls is None)
    if not seen.current and seen.ended is not None and not seen.draining:
        return _plan_ended(service, seen, seen.ended, renew=renew, strays=strays)
    if not seen.current and seen.draining and service.role is Role.SERVER:
        old = seen.draining[-1]
        return Action(service=name, verb=Verb.RESTART, reason=old.detail, instance=old, extra=seen.leftovers)
    if not seen.current:
        reason = seen.stale or ("the old one drains" if seen.draining else "was not running")
        return Action(
            service=name, verb=Verb.START, reason=reason, strays=strays, extra=seen.leftovers, mute=mute
        )
    keeper = _keeper(service, seen.current)
    extra = (*(one for one in seen.current if one is not keeper), *seen.leftovers)
    anew = renew and not beside
    verb, reason = _decide(
        service, keeper, renew=renew, idle_ends=anew or server_restarts, server_restarts=server_restarts
    )
    return Action(
        service=name,
        verb=verb,
        reason=reason if verb is not Verb.KEEP or not extra else _tidied(seen, extra),
        instance=keeper,
        extra=extra,
        mute=mute,
        strays=strays,
        gently=True,
        renew=server_restarts and verb is Verb.WAIT,
    )


def _plan_ended(
    service: Declared, seen: Observed, ended: Instance, *, renew: bool, strays: tuple[Stray, ...]
) -> Action:
    """A one-shot that is completed stays so until it changes; a failed one is run again."""
    extra = (*seen.leftovers, ended)
    if renew:
        reason = ""  # by whoever reads the answer
    elif not service.oneshot or ended.state is not ServiceState.COMPLETED:
        reason = ended.detail
    elif ended.digest != service.digest:
        reason = "it has changed since it was completed"
    else:
        return Action(
            service=service.name, verb=Verb.KEEP, instance=ended, extra=seen.leftovers, strays=strays
        )
    return Action(service=service.name, verb=Verb.START, reason=reason, strays=strays, extra=extra)


def _tidied(seen: Observed, extra: Sequence[Instance]) -> str:
    """What tidying up does beside a service that is kept; a record alone is no process."""
    if seen.stale and not any(one.pid for one in extra):
        return f"{seen.stale}: it is removed, the service runs on"
    return "what was left over is ended"


def _decide(
    service: Declared, keeper: Instance, *, renew: bool, idle_ends: bool, server_restarts: bool
) -> tuple[Verb, str]:
    # Without calls an overlap gains nothing while the server is away: nobody can join.
    overlap = service.is_agent and (keeper.calls != 0 or not idle_ends)
    replace = Verb.OVERLAP if overlap else Verb.RESTART
    if renew:
        return replace, ""  # by whoever reads the answer
    if keeper.proving:
        return replace, "nobody has proved it"
    if keeper.share < 1:
        return replace, "it is a canary"
    if keeper.digest != service.digest:
        return replace, "runs with an old configuration"
    if server_restarts:
        return Verb.WAIT, "registers again with the restarted server"
    if keeper.state is ServiceState.STARTING:
        if not service.is_agent and service.probe and service.probe.notify:
            return Verb.RESTART, "its readiness message went to a command that is gone"
        if keeper.age_s > service.ready_timeout_s:
            return replace, keeper.detail or f"not ready after {keeper.age_s:.0f} s"
        return Verb.WAIT, keeper.detail or "starting"
    if keeper.state is ServiceState.UNRESPONSIVE:
        return replace, keeper.detail or "does not answer"
    return Verb.KEEP, ""


def _keeper(service: Declared, current: Sequence[Instance]) -> Instance:
    """Of several: one that callers reach, then the right configuration first, then ready, then calls, then the oldest."""
    return max(
        current,
        key=lambda one: (
            not one.proving,
            one.share == 1,
            one.digest == service.digest,
            one.state is ServiceState.READY,
            one.calls or 0,
            one.age_s,
        ),
    )


def _undeclared(services: Sequence[Declared], observed: Mapping[str, Observed]) -> tuple[Action, ...]:
    declared = {service.name for service in services}
    return tuple(
        Action(
            service=name,
            verb=Verb.STOP,
            reason="no longer declared",
            extra=(*seen.current, *seen.leftovers, *_ended(seen)),
            gently=True,
        )
        for name, seen in observed.items()
        if name not in declared and (seen.current or seen.leftovers or seen.ended)
    )


def _ended(seen: Observed) -> tuple[Instance, ...]:
    return () if seen.ended is None else (seen.ended,)


def plan_stop(
    services: Sequence[Declared], observed: Mapping[str, Observed], *, only: Sequence[str] = ()
) -> tuple[Action, ...]:
    """Ends what runs, dependents before what they need, agents before servers; draining ones too."""
    chosen = [service.name for service in choose(services, only)]
    declared = {service.name for service in services}
    # What is no longer declared goes first: nobody can say what it needs.
    names = ([] if only else [name for name in observed if name not in declared]) + chosen[::-1]
    actions = []
    for name in names:
        seen = observed.get(name, Observed())
        running = (*seen.instances, *seen.leftovers, *_ended(seen))
        if running:
            actions.append(Action(service=name, verb=Verb.STOP, extra=running))
        else:
            actions.append(Action(service=name, verb=Verb.KEEP, reason=seen.stale or "not running"))
    return tuple(actions)


class UnnamedCall(str):
    """A call that a process counts and does not name; the text names the process instead."""

    __slots__ = ()


def calls_at_risk(actions: Sequence[Action], observed: Mapping[str, Observed]) -> tuple[str, ...]:
    """The rooms whose calls these actions would cut off.

    An overlap cuts none: the old one drains. A server that ends takes every call with it.
    """
    rooms: list[str] = []
    for action in actions:
        rooms += [room for one in _cut_off(action) for room in _rooms(one)]
        if ends_a_server([action]):
            rooms += [room for seen in observed.values() for one in seen.instances for room in _rooms(one)]
        for stray in _ended_strays(action):
            counted = range(1, (stray.calls or 0) + 1)
            rooms += [UnnamedCall(f"(call {number} of stray pid {stray.pid})") for number in counted]
    return tuple(dict.fromkeys(rooms))


def silent_agents(actions: Sequence[Action]) -> bool:
    """Whether these cut off an agent that does not say which calls it has."""
    return any(
        None in (*(one.calls for one in _cut_off(action)), *(stray.calls for stray in _ended_strays(action)))
        for action in actions
    )


def _cut_off(action: Action) -> list[Instance]:
    """What it ends without waiting for calls."""
    drained = action.extra if action.gently else ()
    if action.verb is Verb.OVERLAP and action.instance:
        drained = (*drained, action.instance)
    return [one for one in action.ended if one.role is not Role.AGENT or one not in drained]


def _ended_strays(action: Action) -> tuple[Stray, ...]:
    return action.strays if action.verb is not Verb.REFUSE else ()


def ends_a_server(actions: Sequence[Action]) -> bool:
    """Whether a livekit-server that lives is among what ends; what one left behind serves nobody.

    One that somebody else started on our port serves our callers as well.
    """
    return any(
        any(
            one.role is Role.SERVER and one.pid and one.state is not ServiceState.STALE
            for one in action.ended
        )
        or any(stray.role is Role.SERVER and stray.pid for stray in _ended_strays(action))
        for action in actions
    )


def handed_over(actions: Sequence[Action]) -> tuple[Action, ...]:
    """The same where other servers take the new rooms meanwhile: callers keep coming, so no agent ends before its successor."""
    return tuple(
        replace(action, verb=Verb.OVERLAP)
        if action.verb is Verb.RESTART and action.instance and action.instance.role is Role.AGENT
        else action
        for action in actions
    )


def without_server(actions: Sequence[Action]) -> tuple[Action, ...]:
    """Those that end no server."""
    return tuple(action for action in actions if not ends_a_server([action]))


def _rooms(instance: Instance) -> tuple[str, ...]:
    unnamed = (instance.calls or 0) - len(instance.rooms)
    return (
        *instance.rooms,
        *(UnnamedCall(f"(call {number + 1} of pid {instance.pid})") for number in range(unnamed)),
    )


def refuse_strays(actions: Sequence[Action], host: str = "") -> None:
    """``StrayError`` for the first service that a stray is in the way of."""
    to = f" --host {host}" if host else ""
    for action in actions:
        if action.verb is Verb.REFUSE:
            stray = action.strays[0]
            if stray.foreign_owner:
                setting = "livekit.url" if stray.role is Role.SERVER else f"the port of {action.service}"
                hint = (
                    f"set {setting} in the inventory to a free port, or let the owner of that process stop it: "
                    "voiceops does not"
                )
            elif stray.pid:
                hint = f"`inv start --replace{to}` ends it gracefully and goes on"
            else:
                hint = "find out who owns the port: `sudo ss -ltnp`"
            raise StrayError(
                f"{action.service} can't start: {stray.reason}",
                hint=hint,
                data={
                    "service": action.service,
                    "pid": stray.pid,
                    "age_s": round(stray.age_s, 1),
                    "command": stray.command,
                    "foreign_owner": stray.foreign_owner,
                },
            )
