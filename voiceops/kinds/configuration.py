"""Configuration files of services: rendered from their templates, written right before a start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voiceops.config.source import templating
from voiceops.errors import ConfigError
from voiceops.util.atomic_write import write_atomically, write_error


def render_configuration(template: Path, values: Mapping[str, object]) -> str:
    """Render a template; ``ConfigError`` with its file and line where that fails."""
    import jinja2

    try:
        return templating.environment([template.parent]).get_template(template.name).render(**values)
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(
            f"the template can't be rendered: {error}", file=str(template), line=line
        ) from error


def write_configuration(path: Path, text: str) -> None:
    """Replace the file in one step, readable for its owner alone."""
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise write_error(path.parent, error) from error
