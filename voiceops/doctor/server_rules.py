"""Rules about the server, its keys and the clocks: what explains everything above it."""

from __future__ import annotations

from collections.abc import Iterator

from voiceops.doctor.evidence import last_error, logged
from voiceops.doctor.facts import StackFacts
from voiceops.model.findings import Finding, Fix
from voiceops.model.settings import MIN_SECRET_BYTES
from voiceops.model.states import ServiceState
from voiceops.util.words import counted

MAX_CLOCK_SKEW_S = 50.0
"""LiveKit accepts one minute; ten seconds before that is the time to say so."""
RECENT_S = 300.0
NOW_S = 60.0
"""A caller who was turned away this long ago may still be trying."""


def server_down(facts: StackFacts) -> Iterator[Finding]:
    server = facts.server
    if server.reachable or not server.used:
        return
    if server.declared and server.foreign_owner:
        return  # stray_server says it, and no start helps
    if server.stopped:
        sentence = f"livekit-server is frozen (its process is stopped, state T): every call at {server.url} is silent."
        # Whoever was in a call hears nothing; any other server that does not answer may carry calls on.
        fixes: tuple[Fix, ...] = (
            Fix(
                command=f"inv stop --only {server.service} --now --yes",
                action="restart",
                service=server.service,
                now=True,
            ),
            Fix(command="inv start", action="start"),
        )
    elif server.declared:
        sentence = f"livekit-server does not answer at {server.url}: nobody can call, no worker can register."
        fixes = (Fix(command="inv start", action="start"),)
    else:
        sentence = f"No LiveKit server answers at {server.url}, and this stack does not run one."
        fixes = (
            Fix(
                command="correct livekit.url in inventory.yaml, or start the server that it names", action=""
            ),
        )
    evidence = [f"GET {server.url}: {server.error or 'no answer'}"]
    if server.state is not None:
        evidence.append(
            f"service {server.service} is {server.state}" + (f": {server.detail}" if server.detail else "")
        )
    evidence += filter(None, (last_error(facts, server.service),))
    yield Finding(
        rule="server-down",
        severity="error",
        sentence=sentence,
        evidence=tuple(evidence),
        fixes=fixes,
        by_hand=not (server.declared or server.stopped),
        service=server.service if server.declared else "",
        rank=0,
    )


def stray_server(facts: StackFacts) -> Iterator[Finding]:
    """Somebody else's server on our port answers 200 to everybody, and knows neither our keys nor our rooms."""
    server = facts.server
    if not server.declared or server.state is not ServiceState.STRAY:
        return
    if server.foreign_owner:
        sentence = (
            f"The LiveKit port belongs to {server.foreign_owner}: this project needs a port of its own."
        )
        fix = Fix(command="set livekit.url in inventory.yaml to a free port, then `inv start`", action="")
    else:
        sentence = "A livekit-server of this project that we did not start owns the port: callers and workers talk to it."
        fix = Fix(
            command=f"inv start --only {server.service} --replace", action="replace", service=server.service
        )
    yield Finding(
        rule="stray-server",
        severity="error",
        sentence=sentence,
        evidence=(server.detail,),
        fixes=(fix,),
        by_hand=bool(server.foreign_owner),
        service=server.service if server.declared else "",
        rank=0,
    )


def server_not_ready(facts: StackFacts) -> Iterator[Finding]:
    server = facts.server
    if server.reachable and server.status not in (None, 200):
        fix = (
            Fix(command=f"inv restart --only {server.service}", action="restart", service=server.service)
            if server.declared
            else Fix(command="restart the LiveKit server on its host", action="")
        )
        yield Finding(
            rule="server-not-ready",
            severity="error",
            sentence=f"livekit-server answers {server.status}: it runs but its node is stuck or overloaded.",
            evidence=(
                f"GET {server.url} -> {server.status} (406 means that its statistics are over 4 s old)",
            ),
            fixes=(fix,),
            service=server.service if server.declared else "",
            rank=1,
        )


def credentials(facts: StackFacts) -> Iterator[Finding]:
    server = facts.server
    if not server.reachable or server.credentials in ("ok", "unknown") or server.state is ServiceState.STRAY:
        return
    fix = (
        Fix(command=f"inv start --only {server.service}", action="start", service=server.service)
        if server.declared
        else Fix(command="set LIVEKIT_API_KEY and LIVEKIT_API_SECRET in .env to the server's pair", action="")
    )
    yield Finding(
        rule="wrong-key",
        severity="error",
        sentence="LiveKit refuses our API key or secret: every command, worker and caller with them is turned away.",
        evidence=(f"credential check: {server.credentials_detail or server.credentials}",),
        fixes=(fix,),
        by_hand=not server.declared,
        service=server.service if server.declared else "",
        rank=2,
    )


def clock_skew(facts: StackFacts) -> Iterator[Finding]:
    skew = facts.server.clock_skew_s
    if abs(skew) > MAX_CLOCK_SKEW_S:
        yield Finding(
            rule="clock-skew",
            severity="error",
            sentence=f"This machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the server's: "
            "tokens made here count as expired or not yet valid.",
            evidence=(f"server time minus local time: {skew:+.0f} s; LiveKit allows 60 s",),
            fixes=(Fix(command="timedatectl set-ntp true", action=""),),
            by_hand=True,
            rank=3,
        )


def secret_too_short(facts: StackFacts) -> Iterator[Finding]:
    size = facts.server.secret_bytes
    if 0 < size < MIN_SECRET_BYTES:
        yield Finding(
            rule="secret-too-short",
            severity="warning",
            sentence=f"The API secret has {size} characters: LiveKit wants {MIN_SECRET_BYTES} or more, "
            "and a short one can be guessed.",
            evidence=(f"livekit.api_secret is {size} characters long",),
            fixes=(
                Fix(
                    command="write a new LIVEKIT_API_SECRET (openssl rand -hex 32) into .env, then `inv start`",
                    action="",
                ),
            ),
            rank=60,
        )


def refused_tokens(facts: StackFacts) -> Iterator[Finding]:
    """Callers whose token the server turned away: they never get as far as a room."""
    refused = [
        event
        for event in facts.since_start(facts.server.service)
        if event.fields.get("status") == 401
        and str(event.fields.get("path", "")).startswith("/rtc")
        and not str(event.fields.get("path", "")).endswith("/validate")
        and facts.now - event.at < RECENT_S
    ]
    expired = [event for event in refused if "expired" in str(event.fields.get("error", ""))]
    other = [event for event in refused if event not in expired]
    for rule, events, what, fix in (
        (
            "expired-token",
            expired,
            "an expired token",
            "make tokens when the caller clicks, not before (default life 6 h)",
        ),
        (
            "refused-token",
            other,
            "a token of another key or secret",
            "give the token server the LIVEKIT_API_KEY and _SECRET of this stack",
        ),
    ):
        if events:
            yield Finding(
                rule=rule,
                severity="error" if facts.now - events[-1].at < NOW_S else "warning",
                sentence=f"The server turned {counted(len(events), 'join')} away in the last 5 minutes: {what}.",
                evidence=(
                    logged(
                        "server",
                        events[-1],
                        f"401 at {events[-1].fields.get('path')}: {_reason(events[-1].fields)}",
                    ),
                ),
                fixes=(Fix(command=fix, action=""),),
                rank=15,
            )


def _reason(fields: dict[str, object]) -> str:
    """The end of the server's error; its beginning is the token itself."""
    return str(fields.get("error", "")).rsplit("error: ", 1)[-1]
