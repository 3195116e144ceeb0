"""A new release that serves a share of new calls for a time: compared with the one before it, it goes on or back.

``verdict`` decides and is pure; ``CanaryWatch`` asks the host and its LiveKit every two seconds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voiceops.deploy.proof import log_tail
from voiceops.errors import ServiceError, UsageError
from voiceops.kinds.model import Declared
from voiceops.model.protocol import MOST_SHARE
from voiceops.stack.logs.cause import raised_in
from voiceops.stack.model import Instance, Observed
from voiceops.stack.stack import Canary, Stack
from voiceops.util.words import counted

if TYPE_CHECKING:
    from voiceops.errors import CanaryEntry, CanarySide
    from voiceops.rooms.live_calls import LiveRooms

FOR_S = 600.0
"""How long it takes its share where nobody says."""
_LONGEST_S = 24 * 3600.0
_EVERY_S = 2.0
_SAY_EVERY_S = 30.0
ANSWER_S = 8.0
"""A caller who has been without a ready agent for so long counts as failed."""
MUTE_S = 6.0
"""An agent that has not answered its health check for so long blocks its loop."""
OLD_GONE_S = 20.0
"""After that the release before does not come back by itself: systemd starts it again within seconds."""
_TIMES_WORSE = 2.0
_MARGIN = 0.05
_ENOUGH = 2
"""Failed calls before the time is over: one alone may be the caller's own network."""
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryOptions:
    """Which share of new calls a new release takes, and for how long."""

    share: float
    for_s: float = FOR_S


def canary_options(share: str, for_: str) -> CanaryOptions | None:
    """Return what ``--canary`` and ``--for`` say; None without them."""
    if not share:
        if for_:
            raise UsageError(
                "--for says how long a canary takes its share, and there is none", hint="add --canary 10%"
            )
        return None
    percent = re.fullmatch(r"(\d{1,3}(?:\.\d{1,2})?)%", share.strip())
    if not percent or not 1 <= float(percent[1]) <= 100 * MOST_SHARE:
        raise UsageError(
            f"--canary {share!r} is no share of new calls",
            hint=f"write 1% to {MOST_SHARE:.0%}: LiveKit gives no more to one of two agents",
        )
    # As the host writes it for the agent, which says it back.
    part = round(float(percent[1]) / 100, 4)
    if not for_:
        return CanaryOptions(share=part)
    time_span = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", for_.strip())
    for_s = float(time_span[1]) * _UNITS[time_span[2]] if time_span else 0.0
    if not 0 < for_s <= _LONGEST_S:
        raise UsageError(f"--for {for_!r} is no time", hint="write 90s, 10m or 2h, a day at most")
    return CanaryOptions(share=part, for_s=for_s)


@dataclass(slots=True)
class FollowedRun:
    """The calls of one run since the canary began."""

    release: str
    calls: int = 0
    answered: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    job_failures: int = 0
    open: dict[str, float | None] = field(default_factory=dict)
    """Rooms whose calls go on, each with the time since which its caller has no agent."""
    _known: set[str] = field(default_factory=set)
    _last: Instance | None = None

    @property
    def failures(self) -> int:
        """A job that fails often leaves a caller without an agent: it is one failure."""
        return max(len(self.unanswered), self.job_failures)

    @property
    def failure_rate(self) -> float:
        return min(1.0, self.failures / self.calls) if self.calls else 0.0

    def note(self, seen: Instance) -> None:
        """Count what this run has taken since it was seen the last time."""
        rooms = {*seen.rooms, *seen.taken}
        last, self._last = self._last, seen
        if last is None:
            self._known = rooms
            return
        fresh = rooms - self._known
        self._known |= fresh
        self.open.update(dict.fromkeys(fresh))
        if seen.taken_count is None or last.taken_count is None:
            self.calls += len(fresh)
        else:
            self.calls += _since(last.taken_count, seen.taken_count)
        self.job_failures += _since(last.failed_count, seen.failed_count)

    def judge_rooms(self, answered: Mapping[str, bool], now: float) -> None:
        """Note which callers have an agent; a room without a person is over."""
        for room, waiting_since in list(self.open.items()):
            if room not in answered:
                del self.open[room]
            elif answered[room]:
                self.answered.add(room)
                self.open[room] = None
            elif waiting_since is None:
                self.open[room] = now
            elif now - waiting_since >= ANSWER_S:
                self.unanswered.add(room)
                del self.open[room]

    def as_json(self) -> CanarySide:
        return {
            "release": self.release,
            "call_count": self.calls,
            "answered_count": len(self.answered - self.unanswered),
            "failed_count": self.failures,
        }


def _since(last: int, now: int) -> int:
    """How far a counter went, which starts anew with its process."""
    return now - last if now >= last else now


def verdict(new: FollowedRun, old: FollowedRun, *, over: bool) -> str:
    """Why the new release is worse than the old one; empty: it is not, or not yet."""
    enough = 1 if over else _ENOUGH
    if new.failures < enough or new.failure_rate <= _TIMES_WORSE * old.failure_rate + _MARGIN:
        return ""
    return (
        f"{new.failures} of its {counted(new.calls, 'call')} failed, "
        f"of the {counted(old.calls, 'call')} to release {old.release} {old.failures}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """What a canary has shown."""

    options: CanaryOptions
    new: FollowedRun
    old: FollowedRun
    took_s: float

    @property
    def measured_share(self) -> float | None:
        """None where nobody called."""
        calls = self.new.calls + self.old.calls
        return self.new.calls / calls if calls else None

    def as_json(self) -> CanaryEntry:
        measured = self.measured_share
        return {
            "share": self.options.share,
            "measured_share": None if measured is None else round(measured, 4),
            "took_s": round(self.took_s, 1),
            "new": self.new.as_json(),
            "old": self.old.as_json(),
        }

    @property
    def taken(self) -> str:
        """The share that was measured, beside the one that was asked for."""
        measured = "none" if self.measured_share is None else f"{self.measured_share:.0%}"
        return (
            f"it took {self.new.calls} of {self.new.calls + self.old.calls} new calls in {self.took_s:.0f} s "
            f"({measured}, asked for {self.options.share:.0%})"
        )

    def __str__(self) -> str:
        if self.measured_share is None:
            return f"nobody called within {self.took_s:.0f} s: only the proof call speaks for release {self.new.release}"
        return (
            f"release {self.new.release}: {self.taken}; "
            f"failed: {self.new.failures} of {self.new.calls}, of release {self.old.release} "
            f"{self.old.failures} of {self.old.calls}"
        )


class CanaryWatch:
    """Watches the canaries of one host."""

    def __init__(
        self,
        options: CanaryOptions,
        *,
        host: str,
        read_log: Callable[[Declared], Sequence[str]],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._host = host
        self._read_log = read_log
        self._say = say
        self._clock = clock
        self._pause = pause
        self.results: dict[str, CanaryResult] = {}
        """By service."""

    def beside(self, stack: Stack) -> Canary:
        """What the stack needs to let a new run take its share."""

        def watch(service: Declared, new: Instance, observe: Callable[[], Observed]) -> None:
            self._watch(service, new, observe, stack.live_rooms)

        return Canary(share=self._options.share, watch=watch)

    def _watch(
        self,
        service: Declared,
        new: Instance,
        observe: Callable[[], Observed],
        live_rooms: Callable[[], LiveRooms | None],
    ) -> None:
        """Return once the time is over, or the run before it is gone; ``ServiceError`` where the new one is worse."""
        share, began = self._options.share, self._clock()
        self._say(
            f"{self._host}: {service.name}: release {service.release} takes {share:.0%} of new calls for "
            f"{self._options.for_s:g} s"
        )
        ours, theirs = FollowedRun(service.release), FollowedRun("")
        said_at = answered_at = old_at = began
        while True:
            seen = observe()
            current = seen.current
            now = self._clock()
            mine = next((one for one in current if one.launch == new.launch), None)
            old = next((one for one in current if one.share == 1 and not one.proving), None)
            if mine is not None and mine.calls is not None:
                answered_at = now
                ours.note(mine)
            if old is not None:
                old_at = now
                theirs.release = old.release
                theirs.note(old)
            live = live_rooms() if ours.open or theirs.open else None
            if live is not None:  # one that does not say is asked again
                answered = {call.room: call.answered for call in live.calls}
                ours.judge_rooms(answered, now)
                theirs.judge_rooms(answered, now)
            over = now - began >= self._options.for_s
            result = CanaryResult(options=self._options, new=ours, old=theirs, took_s=now - began)
            self.results[service.name] = result
            ended = "it has ended" if seen.has_ended(new) else ""
            cause = ended or verdict(ours, theirs, over=over)
            if not cause and now - answered_at >= MUTE_S:
                cause = f"it has not answered its health check for {now - answered_at:.0f} s"
            if cause:
                raise self._failed(service, cause, result)
            if over or now - old_at >= OLD_GONE_S:
                self._say(f"{self._host}: {service.name}: canary: {result}")
                return
            if now - said_at >= _SAY_EVERY_S:
                said_at = now
                self._say(f"{self._host}: {service.name}: canary: {result}")
            self._pause(_EVERY_S)

    def _failed(self, service: Declared, cause: str, result: CanaryResult) -> ServiceError:
        log = self._read_log(service)
        raised = raised_in(log)
        said = f"as a canary: {cause}{f': {raised}' if raised else ''}; {result.taken}"
        return ServiceError(
            f"{self._host}: {said}",
            hint=f"`inv logs --host {self._host} --only {service.name}` shows more",
            log_tail=log_tail(log, raised),
            data={
                "host": self._host,
                "service": service.name,
                "raised": bool(raised),
                "canary": result.as_json(),
            },
        )
