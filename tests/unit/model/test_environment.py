"""Which variables a service gets: those of the session, those its kind reads, and those it names."""

from __future__ import annotations

import pytest

from voiceops.model.environment import selected_variables, session_environment

VARIABLES = {
    "CRM_TOKEN": "t",
    "CRM_URL": "u",
    "OPENAI_API_KEY": "k",
    "SUDO_PASSWORD": "s",
    "DEEPGRAM_API_KEY": "",
}


def test_names_and_patterns_select_and_nothing_else_comes_along() -> None:
    assert selected_variables(["CRM_*"], VARIABLES) == {"CRM_TOKEN": "t", "CRM_URL": "u"}
    assert selected_variables(["CRM_URL"], VARIABLES) == {"CRM_URL": "u"}
    assert selected_variables([], VARIABLES) == {}


def test_a_pattern_may_match_nothing_but_a_name_must_be_set() -> None:
    assert selected_variables(["NONE_*"], VARIABLES) == {}
    with pytest.raises(KeyError, match="NONE"):
        selected_variables(["NONE"], VARIABLES)


def test_no_pattern_selects_what_voiceops_sets_itself() -> None:
    assert selected_variables(["*"], {"NOTIFY_SOCKET": "/x", "VOICEOPS_LAUNCH": "1", "A": "b"}) == {"A": "b"}


def test_a_session_has_paths_and_language_and_no_credentials() -> None:
    shell = {
        "PATH": "/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "XDG_RUNTIME_DIR": "/run/user/0",
        "HTTPS_PROXY": "p",
        "AWS_SECRET_ACCESS_KEY": "x",
        "SSH_AUTH_SOCK": "/s",
        "LIVEKIT_KEYS": "a: b",
        "UV_INDEX": "u",
    }
    assert set(session_environment(shell)) == {"PATH", "HOME", "LC_ALL", "XDG_RUNTIME_DIR", "HTTPS_PROXY"}
