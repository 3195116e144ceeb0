"""livekit.yaml from its template: loopback by default, nothing leaves the machine; public when asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voiceops.config.source import templating
from voiceops.errors import ConfigError
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitService, LivekitSettings

TEMPLATE = "livekit.yaml"


def variables(service: LivekitService, livekit: LivekitSettings) -> dict[str, Any]:
    """What the template gets; the secret is in the clear."""
    return {
        "port": livekit.port,
        "public": service.public,
        "api_key": livekit.api_key.reveal(),
        "api_secret": livekit.api_secret.reveal(),
        "rtc_tcp_port": service.rtc_tcp_port,
        "rtc_udp_port": service.rtc_udp_port,
        "node_ip": service.node_ip,
        "redis": service.redis,
        "log_level": service.log_level,
    }


def render(template: Path, values: Mapping[str, Any], extra: Mapping[str, object]) -> str:
    """The file's text; ``extra`` is merged over it, for what has no setting of its own."""
    import jinja2

    try:
        text = templating.environment([template.parent]).get_template(template.name).render(**values)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(
            f"the template can't be rendered: {error}", file=str(template), line=line
        ) from error
    if not extra:
        return text
    import yaml

    merged = _merge(yaml.safe_load(text), revealed(extra))
    dumped: str = yaml.safe_dump(merged, sort_keys=False)
    return dumped


def revealed(value: Any) -> Any:
    """``livekit.config`` with its secrets in the clear."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: revealed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [revealed(item) for item in value]
    return value


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged
