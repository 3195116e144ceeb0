"""Take a host back to the releases before those that failed, by itself and under the lock of the deploy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from voiceops.deploy import ledger
from voiceops.deploy.desired import HostState
from voiceops.deploy.proof import ReleaseProof
from voiceops.errors import RollbackEntry, ServiceError, VoiceopsError
from voiceops.kinds.model import Declared
from voiceops.ports import Transport
from voiceops.stack import operations
from voiceops.stack.results import Results
from voiceops.stack.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRelease:
    """What failed of a deploy."""

    services: tuple[str, ...]
    """The agents whose new releases failed."""
    new: tuple[str, ...]
    """All agents that got a new release: a host goes back as a whole."""
    cause: str
    log_tail: tuple[str, ...] = ()
    noted: bool = False
    """An earlier run has marked them bad and was ended before it went back."""
    raised: bool = False
    """Its log shows an exception: it is bad whatever the release before does."""
    running: bool = True
    """It runs, whatever it is worth: where there is nothing to go back to, it stays."""


@dataclass(slots=True)
class _Outcome:
    """What going back came to."""

    words: list[str] = field(default_factory=list)
    answers: bool = True
    """The releases before answer calls, as far as they were called."""
    serves: bool = True
    """The releases before have been started."""
    replaced: bool = False
    """Something was started or ended for it: the failed release had served."""
    took_s: float = 0.0

    def entry(self, cause: str) -> RollbackEntry:
        """What an error carries of it."""
        return {"ok": self.serves, "cause": cause, "took_s": self.took_s}


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticRollback:
    """Takes a host back to the releases before those that failed. Its lock is held by the caller."""

    transport: Transport
    state: HostState
    make_stack: Callable[[tuple[Declared, ...]], Stack]
    by: str
    timeout_s: float
    say: Callable[[str], None]
    prove: Callable[[Declared], ReleaseProof | None]
    """Calls a service's agent; None where calls are left out."""

    def go_back(self, failed: FailedRelease) -> ServiceError:
        """Mark the releases bad, bring back those before them, and return what to raise.

        Bad is written down first: a run that is ended after that is finished by the next deploy. Where the
        release before fails its call as well, the cause is likely elsewhere and the mark is taken back, unless
        the log of the new one shows what it raised.
        """
        names = self.state.names
        if not failed.noted:
            ledger.note(self.transport, names, self._entries(failed, "bad", failed.cause))
        known = ledger.read_ledger(self.transport, names)
        before = {name: known.before(name, self.state.releases[name]) for name in failed.new}
        moves = {name: release for name, release in before.items() if release}
        services = tuple(
            replace(one, release=moves[one.name], digest=moves[one.name]) if one.name in moves else one
            for one in self.state.services
        )
        stays = [name for name, release in before.items() if not release]
        outcome = _Outcome()
        if moves:
            began = time.monotonic()
            self._restore(services, moves, outcome, unproved=failed.cause if stays else "")
            outcome.took_s = round(time.monotonic() - began, 3)
        elif failed.running:
            self._record(services, failed.cause)
        doubted = not outcome.answers and not failed.raised
        if doubted:
            ledger.note(self.transport, names, self._entries(failed, "unproved", outcome.words[-1]))
        if stays:
            outcome.words.append(f"{', '.join(stays)} has no earlier good release to go back to")
        return self._error(failed, moves, outcome, doubted=doubted)

    def _entries(self, failed: FailedRelease, result: str, why: str) -> list[ledger.LedgerEntry]:
        return [
            ledger.LedgerEntry(
                service=name,
                release=self.state.releases[name],
                result=result,
                by=self.by,
                action="deploy",
                why=why,
            )
            for name in failed.services
        ]

    def _record(self, services: Sequence[Declared], unproved: str) -> None:
        names = self.state.names
        ledger.record(self.transport, names, services, by=self.by, action="deploy", unproved=unproved)

    def _restore(
        self, services: tuple[Declared, ...], moves: Mapping[str, str], outcome: _Outcome, *, unproved: str
    ) -> None:
        for name, release in moves.items():
            self.say(f"{self.transport.name}: {name}: going back to release {release}")
        stack = self.make_stack(services)
        try:
            results = self._start(stack)
        except VoiceopsError as error:
            outcome.serves = False
            outcome.words.append(
                f"going back failed as well: {error.message}; the next deploy tries it again"
            )
            return
        outcome.replaced = any(results[name].changed for name in moves)
        for service in services:
            if service.name not in moves:
                continue
            proof = self.prove(service)
            went = "is back at" if results[service.name].changed else "stays at"
            back = f"{service.name} {went} release {service.release}"
            if proof is None:
                outcome.words.append(back)
            elif proof.ok:
                outcome.words.append(f"{back}, which answers a call")
            else:
                outcome.words.append(f"{back}, which fails its call as well: {proof.cause}")
                outcome.answers = False
                unproved = proof.cause
        self._record(services, unproved)

    def _start(self, stack: Stack) -> Results:
        """Start what served before, twice if need be: what failed there is no reason to serve what fails for sure."""
        try:
            return operations.start(stack, timeout_s=self.timeout_s)
        except ServiceError as error:
            self.say(f"{error.message}; trying once more")
            return operations.start(stack, timeout_s=self.timeout_s)

    def _error(
        self, failed: FailedRelease, moves: Mapping[str, str], outcome: _Outcome, *, doubted: bool
    ) -> ServiceError:
        host = self.transport.name
        releases = {name: self.state.releases[name] for name in failed.services}
        what = ", ".join(f"release {release} of {name}" for name, release in releases.items())
        mark = "it is not marked bad" if doubted else "it is marked bad"
        hint = f"correct it and deploy again; `inv logs --host {host} --only {failed.services[0]}` shows more"
        if not outcome.answers:
            hint = f"`inv why --host {host}` looks for a cause that both releases have"
        went: dict[str, object] = {"went_back_to": dict(moves), "rollback": outcome.entry(failed.cause)}
        if outcome.serves and not outcome.replaced:
            went = {"stays_with": dict(moves)} if moves else {}
        return ServiceError(
            f"{host}: {what} failed: {failed.cause}; {'; '.join([mark, *outcome.words])}",
            hint=hint,
            log_tail=failed.log_tail,
            data={
                "host": host,
                "service": failed.services[0],
                "bad": {} if doubted else releases,
                **went,
            },
        )
