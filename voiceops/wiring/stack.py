"""Build the stack of a host: this machine's processes, or a server's units."""

from __future__ import annotations

import sys
from collections.abc import Callable

from voiceops.adapters.binaries.progress import Progress as Fetched
from voiceops.adapters.livekit.credentials import refusal
from voiceops.config.shipped import find_template, template_folders
from voiceops.errors import ConfigError
from voiceops.kinds.model import DeclarationContext, Declared
from voiceops.model.settings import Host
from voiceops.stack import declare
from voiceops.stack.livekit_occupancy import LivekitOccupancy, read_live_rooms
from voiceops.stack.local.backend import ProcessBackend
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.lock import locked, this_command
from voiceops.stack.local.usage import usage
from voiceops.stack.model import Instance
from voiceops.stack.results import Progress, silent
from voiceops.stack.room_hooks import clean_before_agents, send_after_restart
from voiceops.stack.stack import Stack
from voiceops.wiring.project import Project, tasks_folder


def build_stack(
    project: Project,
    host: Host,
    *,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Stack:
    """The services of this machine on the process backend, those of a server on systemd."""
    if not host.local:
        # ssh, systemd and what a deploy leaves on a server: this machine's stack needs nothing of it.
        from voiceops.wiring.server import server_stack

        return server_stack(project, host, progress=progress, say=say)
    folder = ProjectFolder(project.root)
    context = declaration_context(project, host, folder, progress)

    def services() -> tuple[Declared, ...]:
        project.ensure_local_keys(say)
        try:
            return declare.declare(context)
        except ConfigError as error:
            raise project.configuration.pointed(host.name, error) from error

    outline = declare.outline(host.settings, folder.root)
    return Stack(
        services=services,
        outline=outline,
        backend=ProcessBackend(folder, say=say),
        lock=lambda limit: locked(folder.base, limit, say, this_command()),
        fetch=lambda: declare.fetch(context),
        occupancy=_livekit_of(host, folder),
        before_agents=clean_before_agents(host, project.rooms_memory, say),
        after_server=send_after_restart(host, say),
        progress=progress,
        live_rooms=lambda: read_live_rooms(host.settings.livekit, host.settings.rooms),
        livekit=host.settings.livekit,
        usage=usage,
        refusal=lambda: refusal(host.settings.livekit),
        want=folder.want,
    )


def _livekit_of(host: Host, folder: ProjectFolder) -> LivekitOccupancy:
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


def own_program() -> tuple[str, ...]:
    """Return what runs this project's commands; a command and its flags follow."""
    return (sys.executable, "-m", "voiceops", "--project", str(tasks_folder()))


def declaration_context(
    project: Project, host: Host, folder: ProjectFolder, progress: Progress = silent
) -> DeclarationContext:
    """What the declarations of a host's services need on this machine."""
    environment = project.configuration.environment

    def on_fetch(service: str) -> Callable[[Fetched], None]:
        words = ""

        def show(seen: Fetched) -> None:
            nonlocal words
            before, words = words, seen.bar
            if words != before:
                progress(service, "fetching", words)

        return show

    return DeclarationContext(
        settings=host.settings,
        root=folder.root,
        config_folder=folder.base,
        dotenv=environment.variables,
        template=lambda name: find_template(name, template_folders(project.root)),
        inventory=project.inventory_file,
        program=own_program(),
        on_fetch=on_fetch,
    )
