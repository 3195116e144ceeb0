"""Compare a host with its desired state, and observe its services in the same exec. Changes nothing."""

from __future__ import annotations

from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.entry import answers
from voiceops.remote.onhost.host import ResourceRun
from voiceops.remote.onhost.journal import Journal
from voiceops.remote.onhost.observe import observe_services
from voiceops.remote.onhost.state_folder import check_folder, may_cache
from voiceops.remote.onhost.survey import ResourceSurvey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.messages import CheckRequest, ResourcesAnswer


@answers("resources.check")
def check_resources(request: CheckRequest, channel: Channel) -> ResourcesAnswer:
    """Plan all resources; with a ``probe``, observe the services as well, where no plan failed."""
    channel.note_signals()
    check_folder(request["state_dir"])
    run = ResourceRun(request, channel, Journal(request["state_dir"], readonly=True))
    probe = request["probe"]
    if probe:
        run.observed_units = probe["patterns"]
    survey = ResourceSurvey(run)
    survey.survey()
    if may_cache(run.folder):
        run.hashes.save()
    found = survey.answer()
    if probe and not found["failed"]:
        found["observation"] = observe_services(probe, run.shown)
    return found
