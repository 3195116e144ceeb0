"""Build what sends alerts."""

from __future__ import annotations

from voiceops.alerts.deliver import AlertTarget
from voiceops.alerts.machine import observe_machine
from voiceops.alerts.recorder import AlertRecorder
from voiceops.alerts.send import AlertSender
from voiceops.config.checks import channel_mistake, webhook_key_mistake
from voiceops.errors import ConfigError
from voiceops.model.settings import Host
from voiceops.ports import MonitorRecorder
from voiceops.wiring.project import Project


def alert_sender(project: Project, host: Host) -> AlertSender:
    """Sends to the channels and the webhook of a host; ``ConfigError`` for one that can't be."""
    try:
        return AlertSender(host.settings.project, host.name, _targets(host))
    except ConfigError as error:
        raise project.configuration.pointed(host.name, error) from None


def alert_recorder(
    project: Project, host: Host, metrics: MonitorRecorder | None, *, on_server: bool
) -> AlertRecorder | None:
    """What judges the monitor's events and sends alerts, told to ``metrics`` too; None where nobody is to be told."""
    sender = alert_sender(project, host)
    if not sender.targets:
        return None
    folder = project.root / ".voiceops"
    return AlertRecorder(
        host.settings.alerts,
        sender,
        host=host.name,
        file=folder / "monitor" / "alerts.json",
        observe=lambda: observe_machine(folder, host.settings.livekit.url),
        server=host.name if on_server else "",
        tell=None if metrics is None else metrics.record,
    )


def _targets(host: Host) -> list[AlertTarget]:
    alerts = host.settings.alerts
    targets = []
    for number, channel in enumerate(alerts.channels, start=1):
        url = channel.reveal()
        if wrong := channel_mistake(url):
            raise ConfigError(wrong[0], path="alerts.channels", hint=wrong[1])
        targets.append(AlertTarget(name=f"channel {number} ({url.partition('://')[0].lower()})", url=url))
    if alerts.webhook_url:
        key = alerts.webhook_key.reveal()
        if wrong := webhook_key_mistake(key):
            raise ConfigError(wrong[0], path="alerts.webhook_key", hint=wrong[1])
        targets.append(AlertTarget(name="webhook", url=alerts.webhook_url, key=key))
    return targets
