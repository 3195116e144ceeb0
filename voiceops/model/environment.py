"""Which environment variables a service gets: those of the session, those that its kind reads, and no others.

``.env`` and the shell hold secrets of everybody (sudo, package indexes, other services). So nothing
of them reaches a service unless its kind reads it, or its ``env`` or ``env_from`` names it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from voiceops.model import protocol

PROVIDER_KEYS = {
    "openai": "OPENAI_API_KEY",
    "deepgram": "DEEPGRAM_API_KEY",
    "cartesia": "CARTESIA_API_KEY",
    "inference": "LIVEKIT_INFERENCE_API_KEY",
}
"""The variable by which ``agentkit.speech`` chooses each provider."""

RESERVED_VARIABLES = frozenset(
    {
        *(protocol.SERVICE_ENV, protocol.LAUNCH_ENV, protocol.HEALTH_SOCKET_ENV, protocol.CALL_STEPS_ENV),
        *("VOICEOPS_UNIT", "NOTIFY_SOCKET"),
    }
)
"""Set by voiceops itself, never by an inventory."""

_SESSION_VARIABLES = (
    *(
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TERM",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TMPDIR",
        "XDG_*",
    ),
    *("LD_LIBRARY_PATH", "PYTHON*", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *(
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ),
)
"""What a program needs to run in a session at all: paths, language, network."""


def is_pattern(name: str) -> bool:
    """Whether an entry of ``env_from`` is a pattern (fnmatch) instead of a name."""
    return any(character in name for character in "*?[")


def session_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of our own environment that local services share with us."""
    return _matching(_SESSION_VARIABLES, environ)


def selected_variables(entries: Sequence[str], variables: Mapping[str, str]) -> dict[str, str]:
    """What ``env_from`` selects; ``KeyError`` with the name that is set nowhere.

    A pattern matches names that ``variables`` lists (those of ``.env``); a name is looked up, so it
    may also be one that is only in the environment.
    """
    names = [entry for entry in entries if not is_pattern(entry)]
    return {
        **_matching([entry for entry in entries if is_pattern(entry)], variables),
        **{name: variables[name] for name in names},
    }


def _matching(patterns: Iterable[str], variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: variables[name]
        for pattern in patterns
        for name in variables
        if fnmatch.fnmatchcase(name, pattern) and name not in RESERVED_VARIABLES
    }
