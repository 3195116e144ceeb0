"""When calls prove a release, and when they speak against it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from voiceops.deploy.proof import ATTEMPTS, ReleaseProof, prove_agent
from voiceops.errors import UnreachableError
from voiceops.model.calls import CallFailure, CallResult, FailureKind

RAISED = ('  File "/opt/p/releases/r2/agent.py", line 3, in entry', "    f()", "ValueError: no customer")


def call(kind: FailureKind | None = None) -> CallResult:
    failure = CallFailure(kind=kind, detail=f"it was {kind}") if kind else None
    return CallResult(id=0, ok=kind is None, room="voiceops-call-1", identity="c", failure=failure)


def proof_of(
    *calls: CallResult, log: Callable[[], tuple[str, ...]] = tuple, shared: bool = False
) -> tuple[ReleaseProof, int]:
    """The proof, and how many of the calls it took."""
    left = list(calls)
    proof = prove_agent("agent", lambda service: left.pop(0), log, shared=shared)
    return proof, len(calls) - len(left)


def test_one_answered_call_is_a_proof() -> None:
    proof, placed = proof_of(call())
    assert proof.ok
    assert placed == 1


def test_a_call_that_fails_without_a_trace_is_repeated_once() -> None:
    assert proof_of(call(FailureKind.NO_AGENT), call())[0].ok
    proof, placed = proof_of(call(FailureKind.NO_AGENT), call(FailureKind.SILENT), call())
    assert (proof.blames_agent, proof.cause, placed) == (True, "it was silent", 2)


def test_one_whose_run_has_ended_is_not_called_again() -> None:
    left = [call(FailureKind.NO_AGENT), call()]
    proof = prove_agent("agent", lambda service: left.pop(0), tuple, shared=False, ended=lambda: True)
    assert (proof.blames_agent, proof.cause, len(left)) == (True, "it was no-agent", 1)


def test_a_traceback_speaks_against_the_release_at_once_and_is_its_cause() -> None:
    proof, placed = proof_of(call(FailureKind.NO_AGENT), call(), log=lambda: (*RAISED, "ready for next"))
    assert (proof.blames_agent, placed) == (True, 1)
    assert proof.cause == "it was no-agent: ValueError: no customer (agent.py:3)"
    assert proof.log_tail[-1] == "ValueError: no customer"


@pytest.mark.parametrize("kind", [FailureKind.CALLER, FailureKind.NO_CONNECT, FailureKind.CREDENTIALS])
def test_a_call_that_reached_no_agent_proves_nothing_and_blames_nobody(kind: FailureKind) -> None:
    proof, _ = proof_of(call(kind))
    assert not proof.ok
    assert not proof.blames_agent


def test_a_call_that_can_not_be_placed_blames_nobody() -> None:
    def unplaced(service: str) -> CallResult:
        raise UnreachableError("web1 is down")

    proof = prove_agent("agent", unplaced, tuple, shared=False)
    assert "web1 is down" in proof.cause
    assert not proof.blames_agent


def test_where_others_share_the_livekit_an_answer_counts_once_the_own_log_names_the_room() -> None:
    logs = [(), ("received job request for voiceops-call-1",)]
    proof, placed = proof_of(call(), call(), call(), log=lambda: logs.pop(0), shared=True)
    assert (proof.ok, proof.elsewhere, placed) == (True, False, 2)
    proof, placed = proof_of(*[call()] * ATTEMPTS, shared=True)
    assert (proof.ok, proof.elsewhere, placed) == (True, True, ATTEMPTS)


def test_where_others_share_the_livekit_a_failed_call_of_our_own_agent_is_enough() -> None:
    log = ("received job request for voiceops-call-1",)
    proof, placed = proof_of(call(FailureKind.SILENT), call(), log=lambda: log, shared=True)
    assert (proof.blames_agent, placed) == (True, 1)
