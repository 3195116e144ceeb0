"""From settings to programs: what each service of this machine runs, and when that has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from voiceops import kinds
from voiceops.errors import ConfigError
from voiceops.kinds.environment import withheld_names
from voiceops.kinds.model import DeclarationContext, Declared
from voiceops.model.settings import ServiceBase, Settings


def outline(settings: Settings, root: Path) -> tuple[Declared, ...]:
    """The services that this host runs, as far as needed to look at them or to stop them.

    Without environment and digest: no secret is fetched and no file is read for it. ``root`` is the
    inventory's folder, or the project's on a server.
    """
    return tuple(_outline(name, service, settings, root) for name, service in settings.running.items())


def declare(context: DeclarationContext) -> tuple[Declared, ...]:
    """The services that this host runs, complete: ready to be started and compared."""
    declared = []
    for name, service in context.settings.running.items():
        with located_at(f"services.{name}"):
            outlined = _outline(name, service, context.settings, context.root)
            one = kinds.kind_of(service).declare(outlined, service, context)
            declared.append(replace(one, withheld=withheld_names(one.env, context.dotenv())))
    return tuple(declared)


def fetch(context: DeclarationContext) -> None:
    """Get the programs that are missing here; may take minutes."""
    for name, service in context.settings.running.items():
        kinds.kind_of(service).fetch(service, context.on_fetch(name))


@contextmanager
def located_at(path: str) -> Iterator[None]:
    """Add ``path`` to a ConfigError that has no location."""
    try:
        yield
    except ConfigError as error:
        if error.file is not None or error.path is not None:
            raise
        raise ConfigError(error.bare, path=path, hint=error.hint) from error


def _outline(name: str, service: ServiceBase, settings: Settings, root: Path) -> Declared:
    bare = Declared(
        name=name,
        kind=service.kind,
        role=service.role,
        cwd=root,
        needs=tuple(service.needs),
        conditions={
            need: condition for need, condition in service.need_conditions.items() if condition != "ready"
        },
        oneshot=service.oneshot,
        restarts_on_failure=service.restart_policy == "on-failure",
        livekit_url=settings.livekit.url,
        ready_timeout_s=service.ready_timeout_s,
        stop_timeout_s=service.stop_timeout_s,
        log_max_bytes=service.log_max_bytes,
        log_keep=service.log_keep,
    )
    return kinds.kind_of(service).outline(bare, service, settings)
