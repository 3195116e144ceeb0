"""Resources for accounts, software, units, the kernel, cron, and commands."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Union

from voiceops.errors import ConfigError
from voiceops.model.quoting import PACKAGE_NAME
from voiceops.model.secret import Secret
from voiceops.resources.model import Content, Resource, Spec, absolute, account, ids, plain, unit_name

_SCHEDULE = re.compile(
    r"@(reboot|hourly|daily|weekly|monthly|yearly)|[0-9*/,A-Za-z-]+( +[0-9*/,A-Za-z-]+){4}"
)
_CRON_FILE = re.compile(r"[A-Za-z0-9_-]+")
_SYSCTL = re.compile(r"[a-z0-9_]+(\.[a-zA-Z0-9_-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Resource):
    """A group."""

    kind: ClassVar[str] = "group"
    name: str
    gid: int | None = None
    system: bool = False

    @property
    def key(self) -> str:
        account(self.name)
        return self.name

    def specs(self) -> list[Spec]:
        return [self.spec(name=self.name, gid=self.gid, system=self.system)]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Resource):
    """A user, with a group of its own name unless ``group`` says otherwise; other groups it has stay."""

    kind: ClassVar[str] = "user"
    name: str
    uid: int | None = None
    group: str | None = None
    groups: Sequence[str] = ()
    home: str | None = None
    shell: str | None = None
    system: bool = False
    create_home: bool = False

    @property
    def key(self) -> str:
        account(self.name)
        return self.name

    def specs(self) -> list[Spec]:
        for group in (self.group, *self.groups):
            account(group)
        return [
            self.spec(
                name=self.name,
                uid=self.uid,
                group=self.group,
                groups=list(self.groups),
                home=absolute(self.home) if self.home else None,
                shell=absolute(self.shell) if self.shell else None,
                system=self.system,
                create_home=self.create_home,
            )
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package(Resource):
    """Packages of the distribution, by apt or dnf."""

    kind: ClassVar[str] = "package"
    names: Sequence[str]
    present: bool = True
    daemons: bool = True
    """False: services that the packages bring are neither started nor enabled."""
    lock_wait_s: float = 120.0
    """How long to wait for somebody else's apt."""

    @property
    def key(self) -> str:
        return ",".join(self.names)

    def specs(self) -> list[Spec]:
        for name in self.names:
            if not PACKAGE_NAME.fullmatch(name):
                raise ConfigError(f"{name!r} is no name for a package")
        return [
            self.spec(
                names=list(self.names),
                present=self.present,
                daemons=self.daemons,
                lock_wait_s=self.lock_wait_s,
            )
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit(Resource):
    """A systemd unit. What is None is left as it is.

    A change of what ``restart_on`` lists restarts it, also when the run that made the change
    was killed before it could. A start counts once the unit has stayed up for ``settle_s``.
    """

    kind: ClassVar[str] = "unit"
    name: str
    enabled: bool | None = None
    running: bool | None = None
    restart_on: Sequence[Resource | str] = ()
    reload_on: Sequence[Resource | str] = ()
    settle_s: float = 1.5
    timeout_s: float = 90.0
    """Of one ``systemctl`` call: above what the unit takes to stop."""

    @property
    def key(self) -> str:
        return unit_name(self.name)

    def specs(self) -> list[Spec]:
        return [
            self.spec(
                name=self.name,
                enabled=self.enabled,
                running=self.running,
                restart_on=ids(self.restart_on),
                reload_on=ids(self.reload_on),
                settle_s=self.settle_s,
                timeout_s=self.timeout_s,
            )
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Venv(Resource):
    """A Python environment with these requirements, at the link ``path``; complete or absent."""

    kind: ClassVar[str] = "venv"
    path: str
    requirements: str
    """The text of a requirements file, best one that is locked."""
    python: str = "python3"
    wheels: str | None = None
    """A folder of wheels on the host: nothing else is asked then. None: the host's index."""
    uv: str | None = None
    """uv on the host: its path, or the name of its wheel in ``wheels``; None: the venv and pip of ``python``."""
    index: bool = False
    """Ask the host's index for what ``wheels`` lacks: the one that its pip or uv is configured for."""
    env: Mapping[str, Union[str, Secret]] = field(default_factory=dict)
    """For the installer where it asks an index, such as ``UV_DEFAULT_INDEX``; names no content."""
    files: Mapping[str, Content] = field(default_factory=dict)
    """Wheels by name that are brought to ``wheels``, which they own; only when the environment must be built."""
    group: str | None = None
    """Besides root, only this group may read it. None: everybody."""

    @property
    def key(self) -> str:
        return absolute(self.path)

    @property
    def digest(self) -> str:
        """Names the folder that the link leads to."""
        text = "\0".join((self.requirements, self.python, self.wheels or "", self.uv or ""))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def specs(self) -> list[Spec]:
        content = self._text()
        return [
            self.spec(
                path=self.path,
                key=self.digest,
                requirements={"sha256": content.sha256, "size": content.size},
                python=self.python,
                owner="root" if self.group else None,
                group=account(self.group),
                mode=0o750 if self.group else None,
                wheels=absolute(self.wheels) if self.wheels else None,
                uv=self.uv,
                index=self.index or None,
                env={name: _plain_text(value) for name, value in self.env.items()} or None,
                files=[
                    {"name": absolute(f"/{name}")[1:], "sha256": content.sha256, "size": content.size}
                    for name, content in sorted(self.files.items())
                ]
                or None,
            )
        ]

    def contents(self) -> list[Content]:
        return [self._text(), *self.files.values()]

    def _text(self) -> Content:
        # The hashes of a locked file are most of a host's desired state: it travels when it is needed.
        return Content.of(self.requirements.encode(), "requirements.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl(Resource):
    """Kernel settings, now and after a reboot; in a container it says what only its machine can set."""

    kind: ClassVar[str] = "sysctl"
    path: str
    """The file that keeps them, such as ``/etc/sysctl.d/60-voice.conf``."""
    values: Mapping[str, str]

    @property
    def key(self) -> str:
        return absolute(self.path)

    def _file(self) -> Content:
        lines = [f"{key} = {value}\n" for key, value in self.values.items()]
        return Content.of("".join(lines).encode(), self.path)

    def contents(self) -> list[Content]:
        return [self._file()]

    def specs(self) -> list[Spec]:
        for key, value in self.values.items():
            if not _SYSCTL.fullmatch(key):
                raise ConfigError(f"{key!r} is no kernel setting")
            plain(value, f"the kernel setting {key}")
        content = self._file()
        file: Spec = {"id": f"file:{self.path}", "type": "file", "path": self.path, "mode": 0o644}
        file |= {"sha256": content.sha256, "size": content.size, "needs": ids(self.needs)}
        return [file, self.spec(values=dict(self.values)) | {"needs": [file["id"]]}]


@dataclass(frozen=True, slots=True, kw_only=True)
class CronEntry(Resource):
    """One line in a file of its own in ``/etc/cron.d``."""

    kind: ClassVar[str] = "cron"
    name: str
    schedule: str
    command: str
    user: str = "root"

    @property
    def key(self) -> str:
        # cron skips files with a dot in their name without a word.
        if not _CRON_FILE.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} is no name for a cron file", hint="letters, digits, '-' and '_' only"
            )
        return self.name

    @property
    def text(self) -> str:
        """The file. cron takes an unescaped ``%`` for a newline."""
        if not _SCHEDULE.fullmatch(self.schedule):
            raise ConfigError(
                f"{self.schedule!r} is no cron schedule", hint="five fields, or @hourly, @daily ..."
            )
        command = plain(self.command, f"the cron command {self.name}").replace("%", r"\%")
        return f"{self.schedule} {account(self.user)} {command}\n"

    def contents(self) -> list[Content]:
        return [Content.of(self.text.encode(), f"/etc/cron.d/{self.name}")]

    def specs(self) -> list[Spec]:
        (content,) = self.contents()
        spec = self.spec(
            path=f"/etc/cron.d/{self.name}",
            sha256=content.sha256,
            size=content.size,
            mode=0o644,
            owner="root",
            group="root",
            expects_any=["/usr/sbin/cron", "/usr/sbin/crond"],
            expects_note="no cron daemon is installed: nothing will run this entry",
        )
        return [spec | {"type": "file"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Resource):
    """A command that has a reason to run: ``creates``, ``unless`` or ``on_change``, at least one.

    ``unless`` is asked in check mode too, so it must change nothing. Secrets go into ``env`` or
    ``stdin``: everybody on the host can read arguments.
    """

    kind: ClassVar[str] = "command"
    name: str
    argv: Sequence[str]
    creates: str | None = None
    unless: Sequence[str] = ()
    on_change: Sequence[Resource | str] = ()
    env: Mapping[str, Union[str, Secret]] = field(default_factory=dict)
    stdin: Union[str, Secret] = ""
    cwd: str | None = None
    timeout_s: float = 300.0

    @property
    def key(self) -> str:
        return plain(self.name, "the name of a command")

    def specs(self) -> list[Spec]:
        if not (self.creates or self.unless or self.on_change):
            raise ConfigError(
                f"command {self.name!r} would run every time",
                hint="say when it is done: creates, unless or on_change",
            )
        if not self.argv or any(
            not isinstance(part, str) or "\0" in part for part in (*self.argv, *self.unless)
        ):
            raise ConfigError(
                f"command {self.name!r}: arguments are strings, and a Secret is never one of them"
            )
        return [
            self.spec(
                argv=list(self.argv),
                creates=self.creates,
                unless=list(self.unless) or None,
                on_change=ids(self.on_change),
                env={name: _plain_text(value) for name, value in self.env.items()},
                stdin=_plain_text(self.stdin),
                cwd=self.cwd,
                timeout_s=self.timeout_s,
            )
        ]


def _plain_text(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value
