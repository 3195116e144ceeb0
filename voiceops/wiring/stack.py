"""The composition root's part for the services of a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voiceops.errors import VoiceopsError
from voiceops.kinds.model import DeclarationContext
from voiceops.stack import declare
from voiceops.stack.livekit_occupancy import LivekitOccupancy, ask
from voiceops.stack.local.backend import ProcessBackend
from voiceops.stack.local.folder import Folder
from voiceops.stack.local.lock import locked, this_command
from voiceops.stack.operations import Stack
from voiceops.stack.results import Progress

if TYPE_CHECKING:
    from voiceops.adapters.binaries.find import Progress as Fetched
    from voiceops.adapters.livekit.api import LivekitApi
    from voiceops.kinds.model import Declared
    from voiceops.model.settings import Host
    from voiceops.stack.model import Instance
    from voiceops.wiring.project import Project


def build_stack(project: Project, host: Host, *, progress: Progress, say: Callable[[str], None]) -> Stack:
    """The services of this machine on the process backend, those of a server on systemd."""
    if not host.local:
        from voiceops.wiring.deploy import server_stack

        return server_stack(project, host, progress=progress, say=say)
    folder = Folder(project.root)
    context = _declaration_context(project, host, folder, progress)

    def services() -> tuple[Declared, ...]:
        project.ensure_local_keys()
        return declare.declare(context)

    return Stack(
        services=services,
        outline=declare.outline(host.settings, folder.root),
        backend=ProcessBackend(folder, say=say),
        lock=lambda limit: locked(folder.base, limit, say, this_command()),
        fetch=lambda: declare.fetch(context),
        occupancy=_livekit_of(host, folder),
        before_agents=lambda: clean_rooms(host, folder, say),
        progress=progress,
        count_rooms=lambda: count_rooms(host),
    )


def _livekit_of(host: Host, folder: Folder) -> LivekitOccupancy:
    """The LiveKit of this machine; its process was started with the file below ``.voiceops``."""

    def started_with(server: Instance) -> str:
        try:
            return folder.configuration(server.service).read_text()
        except (OSError, ValueError):
            return ""

    return LivekitOccupancy(
        livekit=host.settings.livekit,
        rooms=host.settings.rooms,
        port=host.settings.livekit.port,
        started_with=started_with,
        url_of_port=lambda port: f"ws://127.0.0.1:{port}",
    )


def _declaration_context(
    project: Project, host: Host, folder: Folder, progress: Progress
) -> DeclarationContext:
    from voiceops.config.shipped import find_template, shipped

    environment = project.configuration.environment

    def on_fetch(service: str) -> Callable[[Fetched], None]:
        words = ""

        def show(seen: Fetched) -> None:
            nonlocal words
            before, words = words, _fetch_words(seen)
            if words != before:
                progress(service, "fetching", words)

        return show

    return DeclarationContext(
        settings=host.settings,
        root=folder.root,
        config_folder=folder.base,
        dotenv=environment.variables,
        template=lambda name: find_template(name, (project.root / "templates", shipped("templates"))),
        on_fetch=on_fetch,
    )


def _fetch_words(seen: Fetched) -> str:
    """A bar in steps of 5 %: one line each where there is no terminal."""
    if not seen.total:
        return seen.doing
    steps = min(20, seen.done * 20 // seen.total)
    return f"{seen.doing} [{'#' * steps}{'.' * (20 - steps)}] {steps * 5} %"


def clean_rooms(host: Host, folder: Folder, say: Callable[[str], None], *, known_as: str = "") -> None:
    """What can be proved to be unused goes before an agent takes calls; no start fails for it."""
    from voiceops.adapters.livekit.api import LivekitApi
    from voiceops.deadline import deadline
    from voiceops.rooms.cleanup import cleanup_stale_rooms
    from voiceops.rooms.observations import ObservationFile
    from voiceops.util import aio

    livekit = host.settings.livekit

    async def clean() -> int:
        async with (
            deadline(15.0, "cleaning up rooms"),
            LivekitApi(livekit.url, livekit.api_key, livekit.api_secret, known_as=known_as) as api,
        ):
            memory = ObservationFile(folder.base / "rooms-seen.json")
            report = await cleanup_stale_rooms(api, host.settings.rooms, memory=memory, confirm_within_s=0.0)
            return len(report.deleted)

    try:
        deleted = aio.run(clean())
    except VoiceopsError as error:
        say(f"rooms were not cleaned: {error.message}")
        return
    if deleted:
        say(f"rooms cleaned: {deleted} deleted")


def count_rooms(host: Host) -> int | None:
    """How many rooms the host's LiveKit has; None when it does not say."""

    async def count(api: LivekitApi) -> int:
        return len(await api.list_rooms())

    try:
        return ask(host.settings.livekit, count, "counting rooms", timeout_s=3.0)
    except VoiceopsError:
        return None
