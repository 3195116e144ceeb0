"""What an observed stack tells of services beside LiveKit and its agents."""

from __future__ import annotations

from voiceops.doctor.observed_stack import ObservedStack, WorkerDetails
from voiceops.kinds.command import CommandService
from voiceops.model.settings import Settings
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed


def run(name: str, state: ServiceState) -> Instance:
    return Instance(service=name, launch=name, pid=0, digest="", state=state)


def test_what_waits_for_a_one_shot_that_failed_is_no_cause_of_its_own() -> None:
    settings = Settings(
        project="test",
        services={
            "migrate": CommandService(command=["x"], oneshot=True),
            "seed": CommandService(command=["x"], oneshot=True),
            "api": CommandService(command=["x"], needs={"migrate": "completed", "seed": "completed"}),
            "cache": CommandService(command=["x"], needs={"seed": "completed"}),
            "old": CommandService(command=["x"], needs=["migrate"]),
        },
    )
    observed = {
        "migrate": Observed(ended=run("migrate", ServiceState.FAILED)),
        "seed": Observed(ended=run("seed", ServiceState.COMPLETED)),
        "old": Observed(instances=(run("old", ServiceState.UNRESPONSIVE),)),
    }
    stack = ObservedStack(
        settings=settings, observed=observed, digests={}, now=0.0, details=lambda one: WorkerDetails()
    )
    broken = {one.name: one for one in stack.broken_services(settings.services)}
    assert list(broken) == ["migrate", "cache", "old"], "api was not started, old runs and does not answer"
    assert (broken["migrate"].needed_by, broken["migrate"].run_again) == (("api", "old"), False)
