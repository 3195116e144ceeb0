"""Rules about certificates: browsers refuse a site whose certificate has run out, and with it every call."""

from __future__ import annotations

from collections.abc import Iterator

from voiceops.doctor.facts import CertificateFact, StackFacts
from voiceops.model.findings import Finding, Fix

LATE_AT = 1 / 4
"""Of its lifetime is left. Caddy renews at a third: it has failed for a week where it lasts 90 days, for an hour where 12."""
_DAY_S, _HOUR_S = 86_400.0, 3600.0


def certificate(facts: StackFacts) -> Iterator[Finding]:
    """A certificate that is missing, was not renewed in time, or has run out."""
    for one in facts.host.certificates:
        left_s = one.not_after - facts.now
        if one.error:
            rule, sentence = (
                "certificate-missing",
                f"{one.service} has no certificate for {one.domain}: no browser can call.",
            )
            evidence = one.error
        elif left_s <= 0:
            rule = "certificate-expired"
            sentence = (
                f"The certificate of {one.domain} ran out {_span(-left_s)} ago: browsers refuse the page."
            )
            evidence = _lifetime(one)
        elif left_s < (one.not_after - one.not_before) * LATE_AT:
            rule = "certificate-not-renewed"
            sentence = f"The certificate of {one.domain} runs out in {_span(left_s)}, and {one.service} has not renewed it."
            evidence = f"{_lifetime(one)}; it is renewed when a third of that is left"
        else:
            continue
        yield Finding(
            rule=rule,
            sentence=sentence,
            evidence=(evidence,),
            fixes=(
                Fix(command=f"inv logs --only {one.service}", action=""),
                Fix(
                    command="correct what it shows (the name must lead to this host, and its ports must be open)",
                    action="",
                ),
                Fix(command=f"inv restart --only {one.service}", action="restart", service=one.service),
            ),
            service=one.service,
            by_hand=True,
            rank=5,
        )


def _lifetime(one: CertificateFact) -> str:
    return f"it was made for {_span(one.not_after - one.not_before)}"


def _span(seconds: float) -> str:
    if seconds >= 2 * _DAY_S:
        return f"{seconds / _DAY_S:.0f} days"
    if seconds >= 2 * _HOUR_S:
        return f"{seconds / _HOUR_S:.0f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
