"""What the types can't say: names that refer to each other, ports that clash, files that must exist."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from voiceops.config.alert_schemes import ALERT_SCHEMES
from voiceops.config.decode import Decoder, Path
from voiceops.model.environment import RESERVED_VARIABLES, is_pattern
from voiceops.model.quoting import PACKAGE_NAME
from voiceops.model.settings import Probe, ServiceBase, Settings
from voiceops.util.order import CircularNeedsError, needed_first
from voiceops.util.suggest import did_you_mean

_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,30}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

WEBHOOK_KEY_CHARACTERS = 16
HISTORY_SCHEMES = ("postgresql://", "sqlite:///")


def check(settings: Settings, decoder: Decoder, *, complete: bool) -> None:
    """Raise ``ConfigError`` for the first mistake; ``complete`` also for a missing project."""
    if settings.project or complete:
        _check_name(decoder, ("project",), settings.project)
    _check_livekit(settings, decoder)
    _check_serial(settings.deploy.serial, decoder, ("deploy", "serial"))
    _check_history(settings, decoder)
    _check_alerts(settings, decoder)
    _check_packages(settings.deploy.packages, decoder, ("deploy", "packages"))
    for name, service in settings.services.items():
        _check_name(decoder, ("services", name), name)
        _check_service(service, decoder, ("services", name))
    _check_needs(settings, decoder)
    _check_run(settings, decoder)
    _check_ports(settings, decoder)


def _check_name(decoder: Decoder, path: Path, name: str) -> None:
    if not name:
        raise decoder.error(path, "project is missing", "add `project: NAME` to the vars of all")
    if not _NAME.fullmatch(name):
        raise decoder.error(
            path,
            f"{name!r} is no name that units, users and folders can carry",
            "use up to 32 small letters, digits, - and _, starting with a letter",
        )


def _check_livekit(settings: Settings, decoder: Decoder) -> None:
    url, where = settings.livekit.url, ("livekit", "url")
    check_url(decoder, where, url, ("ws", "wss", "http", "https"))
    if urlsplit(url).scheme in ("ws", "http") and not settings.livekit.insecure and not is_private_url(url):
        raise decoder.error(
            where,
            f"{url} would carry the keys' admin tokens and every call's token unencrypted through public networks",
            "write wss://, an address of a private network, or livekit.insecure: true",
        )
    if bool(settings.livekit.api_key) != bool(settings.livekit.api_secret):
        missing = "api_secret" if settings.livekit.api_key else "api_key"
        raise decoder.error(
            ("livekit", missing), f"{missing} is empty but its partner is not", "set both, or neither"
        )
    livekit = settings.livekit
    for which in ("next", "previous"):
        key, secret = getattr(livekit, f"{which}_api_key"), getattr(livekit, f"{which}_api_secret")
        if bool(key) != bool(secret):
            raise decoder.error(
                ("livekit", f"{which}_api_{'secret' if key else 'key'}"),
                f"livekit.{which}_api_key and livekit.{which}_api_secret belong together",
                "set both, or neither",
            )


def _check_history(settings: Settings, decoder: Decoder) -> None:
    url = settings.history.url
    if url and url.form == "literal" and not url.reveal().startswith(HISTORY_SCHEMES):
        raise decoder.error(
            ("history", "url"),
            f"the URL must start with {' or '.join(HISTORY_SCHEMES)}",
            "write postgresql://USER:PASSWORD@HOST/DATABASE; without it the history is a file in .voiceops",
        )


def _check_alerts(settings: Settings, decoder: Decoder) -> None:
    alerts = settings.alerts
    for index, channel in enumerate(alerts.channels):
        if channel.form == "literal" and (wrong := channel_mistake(channel.reveal())):
            raise decoder.error(("alerts", "channels", index), *wrong)
    if alerts.webhook_url:
        check_url(decoder, ("alerts", "webhook_url"), alerts.webhook_url, ("https", "http"))
        if alerts.webhook_url.startswith("http:") and not is_private_url(alerts.webhook_url):
            raise decoder.error(
                ("alerts", "webhook_url"),
                "alerts would travel unencrypted through public networks",
                "write https://, or an address of a private network",
            )
    if bool(alerts.webhook_url) != bool(alerts.webhook_key):
        missing = "webhook_key" if alerts.webhook_url else "webhook_url"
        raise decoder.error(
            ("alerts", missing), f"{missing} is empty but its partner is not", "set both, or neither"
        )
    literal = alerts.webhook_key.form == "literal" and alerts.webhook_key.reveal()
    if literal and (wrong := webhook_key_mistake(literal)):
        raise decoder.error(("alerts", "webhook_key"), *wrong)


def channel_mistake(url: str) -> tuple[str, str] | None:
    """Say what is wrong with a URL of a channel, and what to write; its text stays out: it can hold a token."""
    scheme, found, _ = url.partition("://")
    if not found:
        return "this is no URL of a channel", "write SCHEME://..., as Apprise has it: slack://TOKEN/CHANNEL"
    if scheme.lower() not in ALERT_SCHEMES:
        return (
            f"there is no alert channel {scheme[:20]!r}",
            did_you_mean(scheme, ALERT_SCHEMES) or "Apprise's documentation lists them",
        )
    return None


def webhook_key_mistake(key: str) -> tuple[str, str] | None:
    """Say what is wrong with a key that could be guessed, or that is no text of one line, and what to do."""
    if len(key) >= WEBHOOK_KEY_CHARACTERS and key.isprintable():
        return None
    return (
        f"the key must have at least {WEBHOOK_KEY_CHARACTERS} characters, all on one line",
        "make one: openssl rand -hex 32",
    )


def _check_serial(serial: int | str, decoder: Decoder, path: Path) -> None:
    percent = re.fullmatch(r"(\d{1,3})%", serial) if isinstance(serial, str) else None
    number = serial if isinstance(serial, int) else int(percent[1]) if percent else 0
    if not number >= 1 or (percent and number > 100):
        raise decoder.error(path, f"{serial!r} is no number of hosts", 'write 1 or more, or "25%"')


def _check_packages(names: list[str], decoder: Decoder, path: Path) -> None:
    for index, name in enumerate(names):
        if not PACKAGE_NAME.fullmatch(name):
            raise decoder.error(
                (*path, index), f"{name!r} is no name of a package", "versions and options are not possible"
            )
        if name in names[:index]:
            raise decoder.error((*path, index), f"{name!r} is named twice")


def check_url(decoder: Decoder, path: Path, url: str, schemes: tuple[str, ...]) -> None:
    """Raise ``ConfigError`` unless it is a URL of a host with one of the schemes, without credentials."""
    wanted = f"write {schemes[0]}://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise decoder.error(path, f"{url!r} is no URL: {error}", wanted) from None
    if parts.scheme not in schemes:
        raise decoder.error(path, f"the URL must start with {', '.join(f'{s}://' for s in schemes)}", wanted)
    if not parts.hostname or port == 0:
        raise decoder.error(
            path, f"the URL {url!r} names no host" if port != 0 else "port 0 is no port", wanted
        )
    if parts.username or parts.password:
        raise decoder.error(path, "the URL must not hold a user or password", "use api_key and api_secret")


def _check_service(service: ServiceBase, decoder: Decoder, path: Path) -> None:
    for variable, value in service.env.items():
        if not _VARIABLE.fullmatch(variable):
            raise decoder.error((*path, "env", variable), f"{variable!r} is no name of a variable")
        if variable in RESERVED_VARIABLES:
            raise decoder.error((*path, "env", variable), f"{variable} is set by voiceops itself")
        if isinstance(value, str) and "\0" in value:
            raise decoder.error((*path, "env", variable), "a NUL character can't be in a variable")
    for index, entry in enumerate(service.env_from):
        here = (*path, "env_from", index)
        if not is_pattern(entry) and not _VARIABLE.fullmatch(entry):
            raise decoder.error(
                here, f"{entry!r} is no name of a variable", "write NAME, or a pattern as CRM_*"
            )
        if entry in RESERVED_VARIABLES:
            raise decoder.error(here, f"{entry} is set by voiceops itself")
    decoder.kinds.kind_of(service).check(service, decoder, path)


def check_peer(peer: str, decoder: Decoder, path: Path) -> None:
    """Raise ``ConfigError`` unless it is an address, a network or ``localhost``."""
    try:
        if peer != "localhost":
            ipaddress.ip_network(peer)
    except ValueError as error:
        wanted = "write an address, a network as 10.0.0.0/8, or localhost"
        raise decoder.error(path, f"{peer!r} is no peer: {error}", wanted) from None


def check_ip(address: str, decoder: Decoder, path: Path) -> None:
    """Raise ``ConfigError`` unless it is an address to listen on."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise decoder.error(path, f"{address!r} is no IP address", "127.0.0.1, or the host's own") from None


def check_probe(probe: Probe, decoder: Decoder, path: Path) -> None:
    """Raise ``ConfigError`` unless it asks for exactly one thing that can be asked."""
    kinds = ("http", "tcp", "log", "command", "notify")
    given = [kind for kind in kinds if getattr(probe, kind) not in (None, False)]
    if len(given) != 1:
        said = " and ".join(given) if given else "none"
        raise decoder.error(path, f"a probe takes exactly one of {', '.join(kinds)}; here is {said}")
    if probe.http is not None:
        check_url(decoder, (*path, "http"), probe.http, ("http", "https"))
    if probe.tcp is not None:
        check_address(decoder, (*path, "tcp"), probe.tcp)
    if probe.command is not None and not probe.command:
        raise decoder.error((*path, "command"), "the command is empty")
    if probe.log is not None:
        try:
            re.compile(probe.log)
        except re.error as error:
            raise decoder.error((*path, "log"), f"no regular expression: {error}") from None


def check_address(decoder: Decoder, path: Path, address: str) -> None:
    """Raise ``ConfigError`` unless it is HOST:PORT."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise decoder.error(path, f"{address!r} is no HOST:PORT", "write it as 127.0.0.1:6379")


def _check_needs(settings: Settings, decoder: Decoder) -> None:
    services: dict[str, ServiceBase] = dict(settings.services)
    for name, service in services.items():
        for need, condition in service.need_conditions.items():
            key = need if isinstance(service.needs, dict) else service.needs.index(need)
            where = ("services", name, "needs", key)
            if need not in services:
                others = [other for other in services if other != name]
                raise decoder.error(where, f"there is no service {need!r}", did_you_mean(need, others))
            _check_condition(services[need], need, condition, decoder, where)
    try:
        needed_first({name: service.needs for name, service in services.items()})
    except CircularNeedsError as error:
        raise decoder.error(
            ("services", error.circle[-2], "needs"),
            f"services need each other in a circle: {error}",
            "take one of these needs out",
        ) from None


def _check_condition(needed: ServiceBase, name: str, condition: str, decoder: Decoder, where: Path) -> None:
    if condition == "completed" and not needed.oneshot:
        raise decoder.error(
            where, f"{name} never completes: it is no one-shot", f"set `oneshot: true` of {name}"
        )
    if condition == "healthy" and (needed.oneshot or not needed.has_probe):
        hint = "write completed" if needed.oneshot else f"give {name} a probe, or write ready"
        raise decoder.error(where, f"nothing tells whether {name} is healthy: it has no probe", hint)


def _check_run(settings: Settings, decoder: Decoder) -> None:
    for index, name in enumerate(settings.run or ()):
        if name not in settings.services:
            raise decoder.error(
                ("run", index), f"there is no service {name!r}", did_you_mean(name, settings.services)
            )
        if name in (settings.run or ())[:index]:
            raise decoder.error(("run", index), f"{name!r} is named twice")


def _check_ports(settings: Settings, decoder: Decoder) -> None:
    taken: dict[tuple[str, int], str] = {}
    for name, service in settings.services.items():
        if settings.run is not None and name not in settings.run:
            continue
        for use in decoder.kinds.kind_of(service).ports(name, service, settings):
            other = taken.setdefault((use.protocol, use.port), ".".join(use.path))
            if other != ".".join(use.path):
                raise decoder.error(
                    use.path,
                    f"{use.protocol} port {use.port} is taken by {other} already",
                    "give one of them another",
                )


_NETWORKS = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
    *("0.0.0.0/32", "::/128"),  # as a destination: this machine
)
"""RFC 1122, 1918, 3927, 4193, 4291. ``ipaddress.is_private`` knows more: it means "not global"."""
_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".localdomain", ".home.arpa")


def is_private_url(url: str) -> bool:
    """Whether the host of a URL is private. A name is judged as it is written, without asking DNS.

    Names without a dot come from /etc/hosts or the local network's own domain.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host in ("localhost", "127.0.0.1"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host or host.endswith(_SUFFIXES)
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ipaddress.ip_network(network) for network in _NETWORKS)
