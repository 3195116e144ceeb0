"""Makes a plan of flags, and refuses what makes no sense."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from voiceops.calls.quality import BEST, WORST
from voiceops.errors import UsageError
from voiceops.model.calls import CallPlan, Hangup

MAX_LINES = 1000
_AUTO_LINES = 256


def make_plan(
    *,
    count: int = 1,
    concurrency: int = 0,
    rate: float = 0.0,
    duration: float = 0.0,
    hold: float = 0.0,
    min_quality: float = 0.0,
    script: str = "",
    hangups: Sequence[str] = (),
    redial: bool = False,
    expect_success: float = 0.95,
    timeout: float = 0.0,
) -> CallPlan:
    """The plan that the flags ask for; ``UsageError`` names the flag that is wrong."""
    if count < 1:
        raise UsageError(
            f"--count is {count}: at least one call is needed", hint="`inv call --count 1` places one"
        )
    if not 0 <= concurrency <= MAX_LINES:
        raise UsageError(
            f"--concurrency is {concurrency}: it goes from 1 to {MAX_LINES}",
            hint="for more callers run `inv call` on several machines",
        )
    for flag, value in (("rate", rate), ("duration", duration), ("hold", hold), ("timeout", timeout)):
        if not math.isfinite(value) or value < 0:
            unit = "calls per second" if flag == "rate" else "seconds"
            raise UsageError(f"--{flag} is {value:g}: a number of at least 0 is needed", hint=f"in {unit}")
    if not 0 <= expect_success <= 1:
        raise UsageError(
            f"--expect-success is {expect_success:g}: a share from 0 to 1 is needed",
            hint="0.95 means 95 of 100 calls",
        )
    if min_quality and not WORST <= min_quality <= BEST:
        raise UsageError(
            f"--min-quality is {min_quality:g}: a mean opinion score from {WORST:g} to {BEST:g} is needed",
            hint="4 is good, below 3.6 many callers complain",
        )
    if min_quality and not hold:
        raise UsageError(
            "--min-quality needs --hold: quality is measured while the caller stays",
            hint="`inv call --hold 20 --min-quality 3.6`",
        )
    if script and not Path(script).is_file():
        raise UsageError(f"there is no file {script}", hint="--script takes a WAV file with 16-bit PCM")
    defaults = CallPlan()
    return CallPlan(
        count=count,
        concurrency=concurrency,
        rate_per_s=rate,
        duration_s=duration,
        hold_s=hold,
        min_quality=min_quality,
        script=str(Path(script).resolve()) if script else "",
        hangups=tuple(_hangup(name) for name in hangups) or defaults.hangups,
        redial=redial,
        expect_success=expect_success,
        timeout_s=timeout or defaults.timeout_s,
    )


def flags_of(plan: CallPlan) -> list[str]:
    """The flags of `inv call` that ask for this plan; its script is a file of this machine."""
    flags = [f"--count={plan.count}", f"--concurrency={plan.concurrency}", f"--rate={plan.rate_per_s!r}"]
    flags += [f"--duration={plan.duration_s!r}", f"--hold={plan.hold_s!r}", f"--timeout={plan.timeout_s!r}"]
    flags += [f"--hangup={','.join(str(one) for one in plan.hangups)}"]
    if plan.min_quality:
        flags += [f"--min-quality={plan.min_quality!r}"]
    return [*flags, f"--expect-success={plan.expect_success!r}", *(["--redial"] if plan.redial else [])]


def longest_s(plan: CallPlan) -> float:
    """What the calls may take together, if every one of them times out."""
    one = plan.timeout_s + plan.hold_s
    return plan.duration_s + one * (1 if plan.duration_s else math.ceil(plan.count / lines_for(plan)))


def lines_for(plan: CallPlan) -> int:
    """How many callers a plan needs: as many as it says, or as its rate keeps busy."""
    if plan.concurrency:
        wanted = plan.concurrency
    elif plan.rate_per_s:
        wanted = min(_AUTO_LINES, math.ceil(plan.rate_per_s * (plan.timeout_s + plan.hold_s)))
    else:
        wanted = 1
    return max(1, wanted if plan.duration_s else min(wanted, plan.count))


def _hangup(name: str) -> Hangup:
    try:
        return Hangup(name)
    except ValueError:
        known = ", ".join(str(one) for one in Hangup)
        raise UsageError(f"--hangup does not know {name!r}", hint=f"it knows {known}") from None
