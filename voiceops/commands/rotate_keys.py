"""Replace the LiveKit keys of a stack without dropping a call: add, use, drop, each as far as the services."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from voiceops.adapters.livekit.credentials import refusal
from voiceops.cli.command import CommandRun, Report
from voiceops.cli.flags import DeployFlags
from voiceops.commands import stack
from voiceops.commands.deploy import deploy_hosts
from voiceops.commands.hosts import stack_on
from voiceops.config.key_rotation import RotatedKeys
from voiceops.deadline import Deadline
from voiceops.errors import CredentialsError, UsageError, VoiceopsError
from voiceops.model.roles import Role
from voiceops.model.secret import Secret
from voiceops.model.settings import Host, LivekitSettings
from voiceops.stack.local.lock import locked, this_command

if TYPE_CHECKING:
    from voiceops.model.documents.servers import RotationDocument

_FOLDER = Path(".voiceops/rotation")
_MARK = "unfinished"
"""A file that stands from the beginning of a rotation to its end: after its last write .env looks as if there had been none."""
_LOCK_WAIT_S = 5.0


class RotationStep(str, Enum):
    """What is to be done next."""

    ADD = "add"
    """The servers learn the next pair, beside the one in use."""
    USE = "use"
    """Everything that has a key moves to the next pair; the servers accept both."""
    DROP = "drop"
    """The servers forget the previous pair."""
    DONE = "done"


_WORDS = {
    RotationStep.ADD: "1 of 3: livekit-server accepts the next key as well",
    RotationStep.USE: "2 of 3: agents, page, monitor and timers move to it",
    RotationStep.DROP: "3 of 3: livekit-server forgets the previous key",
}


def rotate_keys(run: CommandRun, *, drain: float, keep_previous: bool) -> Report:
    """Go on with the rotation where it stands, or begin one; ``LockedError`` where another command does."""
    folder = run.project.root / _FOLDER
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    with locked(folder, Deadline(_LOCK_WAIT_S, "the other rotation"), run.say, this_command()):
        return _rotate(run, folder / _MARK, drain=drain, keep_previous=keep_previous)


def _rotate(run: CommandRun, mark: Path, *, drain: float, keep_previous: bool) -> Report:
    livekit = _same_pair(run)
    _refuse_left_out(run, livekit)
    if obstacle := _not_ours(run, livekit):
        return _by_hand(run, livekit, drain, obstacle)
    keys = RotatedKeys(
        run.project.configuration.environment, livekit.api_key.reference, livekit.api_secret.reference
    )
    unfinished = _step(livekit, begun=mark.exists())
    if run.check:
        return Report(_document(unfinished, {}), f"next is {_WORDS[unfinished]}", exit_code=2)
    report = Report(_document(unfinished, {}))
    for step in _steps_from(unfinished):
        fresh = _prepared(run, keys, mark, step)
        report = _converge(fresh, step, drain)
        if report.exit_code:
            run.say(f"the rotation stands at step {_WORDS[step]}; run this again to go on")
            return report
        if step is RotationStep.ADD:
            _require_accepted(fresh)
        if step is RotationStep.USE and keep_previous:
            text = "the previous key is still accepted: move your own apps and token servers, then run this again"
            return Report(report.data, text)
    mark.unlink(missing_ok=True)
    return Report(
        {**report.data, "step": RotationStep.DONE.value},
        "the keys are rotated: the previous ones are refused",
    )


def _steps_from(step: RotationStep) -> Iterator[RotationStep]:
    order = [RotationStep.ADD, RotationStep.USE, RotationStep.DROP]
    yield from order[order.index(step) :]


def _step(livekit: LivekitSettings, *, begun: bool) -> RotationStep:
    """The step that is unfinished; the first one where no rotation has begun."""
    if livekit.next_api_key:
        return RotationStep.ADD
    if livekit.previous_api_key:
        return RotationStep.USE
    return RotationStep.DROP if begun else RotationStep.ADD


def _prepared(run: CommandRun, keys: RotatedKeys, mark: Path, step: RotationStep) -> CommandRun:
    """The same command on the configuration of a step; what was written already is left as it is."""
    known = keys.environment.dotenv()
    if step is RotationStep.ADD:
        mark.touch()
        keys.add_next()
    elif step is RotationStep.USE and f"{keys.key}_NEXT" in known:
        keys.use_next()
    elif step is RotationStep.DROP and f"{keys.key}_PREVIOUS" in known:
        keys.drop_previous()
    return replace(run, _project=None)


def _converge(run: CommandRun, step: RotationStep, drain: float) -> Report:
    """Bring the selected hosts to what the configuration declares now."""
    run.say(_WORDS[step])
    try:
        if run.project.hosts[0].local:
            report = stack.start(run, only="", verify=False, drain=drain)
        else:
            report = deploy_hosts(run, "deploy", DeployFlags(drain=drain), call=True, check=False)
    except VoiceopsError as error:
        error.add_context(after=f"; the rotation stands at step {_WORDS[step]}, run this again to go on")
        raise
    text = report.text if isinstance(report.text, str) or run.json else report.text()
    if text and not run.json:
        run.say(str(text))
    return Report(_document(step, report.data), exit_code=report.exit_code)


def _document(step: RotationStep, data: Mapping[str, object]) -> RotationDocument:
    hosts = data.get("hosts", {})
    assert isinstance(hosts, dict)
    return {"step": step.value, "hosts": hosts}


def _same_pair(run: CommandRun) -> LivekitSettings:
    """The LiveKit settings of the selected hosts, which have one pair; ``UsageError`` where they have several."""
    hosts = run.project.hosts
    local = {host.local for host in hosts}
    first = hosts[0].settings.livekit
    if len(local) > 1 or any(not _shares(host, first) for host in hosts):
        raise UsageError(
            "these hosts have different LiveKit keys"
            if len(local) == 1
            else "this machine and servers at once",
            hint="rotate the keys of one group after the other: --host, --group or --limit",
        )
    return first


def _shares(host: Host, livekit: LivekitSettings) -> bool:
    return host.settings.livekit.api_key == livekit.api_key


def _refuse_left_out(run: CommandRun, livekit: LivekitSettings) -> None:
    """``UsageError`` where a server has the same keys and is not selected: it would be locked out."""
    selected = {host.name for host in run.project.hosts}
    configuration = run.project.configuration
    others = [configuration.host(name) for name in configuration.inventory.hosts if name not in selected]
    left_out = [host for host in others if _shares(host, livekit) and livekit.api_key.form != "literal"]
    if run.project.hosts[0].local or not left_out:
        servers = [host.name for host in left_out if not host.local]
        if servers:
            raise UsageError(
                f"{', '.join(servers)} have the same keys and would be locked out",
                hint=f"rotate them as servers: `inv rotate-keys --host {','.join(servers)}`",
            )
        return
    servers = [host.name for host in left_out if not host.local]
    if servers:
        raise UsageError(
            f"{', '.join(servers)} have the same keys and would be locked out",
            hint="select them as well",
        )
    run.say(f"{left_out[0].name} has the same keys: `inv start` there afterwards")


def _not_ours(run: CommandRun, livekit: LivekitSettings) -> str:
    """Why the command can't write these keys itself; empty where it can."""
    if not any(host.settings.runs(Role.SERVER) for host in run.project.hosts):
        return "no livekit-server here is part of the inventory"
    known = run.project.configuration.environment.dotenv()
    for name, secret in (("api_key", livekit.api_key), ("api_secret", livekit.api_secret)):
        if secret.form != "env":
            return f"livekit.{name} is not a variable of .env"
        if secret.reference in os.environ:
            return f"{secret.reference} is set in the environment, which wins over .env"
        if secret.reference not in known:
            return f"{secret.reference} is not set in .env"
    return ""


def _by_hand(run: CommandRun, livekit: LivekitSettings, drain: float, obstacle: str) -> Report:
    """One step of a rotation whose keys somebody else writes, and what to write next."""
    if not livekit.next_api_key and not livekit.previous_api_key:
        raise UsageError(
            f"the new keys can't be written: {obstacle}",
            hint="make a key and a secret where the present ones are kept, name them livekit.next_api_key and "
            "livekit.next_api_secret in the inventory, and run this again",
        )
    step = RotationStep.ADD if livekit.next_api_key else RotationStep.USE
    if run.check:
        return Report(_document(step, {}), f"next is {_WORDS[step]}", exit_code=2)
    report = _converge(run, step, drain)
    if report.exit_code:
        return report
    if step is RotationStep.ADD:
        _require_accepted(run)
        then = (
            "both keys are accepted; now make livekit.next_api_key and next_api_secret the values of api_key and "
            "api_secret, name the present ones previous_api_key and previous_api_secret, and run this again"
        )
    else:
        then = (
            "nothing of this inventory has the previous key any more; take livekit.previous_api_key and "
            f"previous_api_secret out of the inventory, then `inv {'start' if run.project.hosts[0].local else 'deploy'} "
            "--drain 600`"
        )
    return Report(report.data, then)


def _require_accepted(run: CommandRun) -> None:
    """``CredentialsError`` where a livekit-server refuses the next pair: nothing may move to it."""
    for host in run.project.hosts:
        if not host.settings.runs(Role.SERVER):
            continue
        with stack_on(run, host) as made:
            if made.livekit is None:
                continue
            pair: dict[str, Secret] = {
                "api_key": host.settings.livekit.next_api_key,
                "api_secret": host.settings.livekit.next_api_secret,
            }
            why = refusal(msgspec.structs.replace(made.livekit, **pair))
        if why:
            raise CredentialsError(f"{host.name}: livekit-server {why}; nothing was moved to the next key")
