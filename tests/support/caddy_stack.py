"""A stack with a real Caddy whose own CA makes certificates for seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import parts
from tests.support.command_folder import REPOSITORY
from tests.support.projects import Project, project

DOMAIN = "voice.test"


@contextmanager
def caddy_stack(folder: Path, lifetime_s: int) -> Iterator[Project]:
    """LiveKit, the page and Caddy, on free ports of loopback; not started."""
    with project(folder / "project") as made:
        services = made.variables["services"]
        services["page"] = {"kind": "web", "needs": ["livekit"], "port": parts.free_port()}
        services["caddy"] = {
            "kind": "caddy",
            "needs": ["page", "livekit"],
            "domain": DOMAIN,
            "tls": "internal",
            "address": "127.0.0.1",
            "port": parts.free_port(),
            "http_port": parts.free_port(),
        }
        made.write()
        brief_certificates(made.folder, lifetime_s)
        yield made


def brief_certificates(folder: Path, lifetime_s: int) -> None:
    """Let the Caddy of a project make certificates that last so long."""
    own = folder / "templates"
    own.mkdir(exist_ok=True)
    text = (REPOSITORY / "templates" / "caddy.caddyfile").read_text()
    brief = f"\ttls {{\n\t\tissuer internal {{\n\t\t\tlifetime {lifetime_s}s\n\t\t}}\n\t}}\n"
    assert "\ttls internal\n" in text
    (own / "caddy.caddyfile").write_text(text.replace("\ttls internal\n", brief))
