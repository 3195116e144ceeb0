"""Which package index a host asks: uv is told what only pip was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from voiceops.remote.onhost import venv_build
from voiceops.remote.onhost.base import Failed


@pytest.fixture
def pip_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only configuration of the host, still empty."""
    for name in list(os.environ):
        if venv_build.PASSED.fullmatch(name):
            monkeypatch.delenv(name)
    monkeypatch.setattr(venv_build, "PIP_FILES", (str(tmp_path / "pip.conf"),))
    monkeypatch.setattr(venv_build, "UV_FILES", (str(tmp_path / "uv.toml"),))
    (tmp_path / "pip.conf").touch()
    return tmp_path / "pip.conf"


def told() -> dict[str, str]:
    """What uv is told, without what it is always told."""
    return {
        name: value for name, value in venv_build.index_environment().items() if name != "UV_INDEX_STRATEGY"
    }


def test_what_pip_is_configured_for_is_said_in_uvs_words(pip_conf: Path) -> None:
    pip_conf.write_text(
        "[global]\nindex-url = https://a.test/simple\nextra-index-url =\n  https://b.test\n  https://c.test/100%\n"
        "trusted-host = a.test\ncert = /etc/ca.pem\n[install]\nindex-url = https://install.test/simple\n"
    )
    assert told() == {
        "UV_DEFAULT_INDEX": "https://install.test/simple",
        "UV_INDEX": "https://b.test https://c.test/100%",
        "UV_INSECURE_HOST": "a.test",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }


def test_the_environment_of_the_host_comes_before_its_files(
    pip_conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_conf.write_text("[global]\nindex-url = https://file.test\n")
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment.test")
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("UV_PYTHON", "3.9")
    assert told() == {
        "PIP_INDEX_URL": "https://environment.test",
        "https_proxy": "http://proxy.test:3128",
        "UV_DEFAULT_INDEX": "https://environment.test",
    }


def test_uvs_own_configuration_is_left_to_uv(pip_conf: Path, tmp_path: Path) -> None:
    pip_conf.write_text("[global]\nindex-url = https://pip.test\n")
    (tmp_path / "uv.toml").touch()
    assert told() == {}


def test_a_configuration_that_can_not_be_read_is_named(pip_conf: Path) -> None:
    pip_conf.write_text("index-url = https://no.section.test\n")
    with pytest.raises(Failed, match="pip's configuration can't be read"):
        told()


def test_what_an_installer_says_is_shown_without_the_password_of_the_index() -> None:
    said = "error: http://reader:s3cret@index.test/simple/av/ and user@example.com"
    assert venv_build.masked(said) == "error: http://****@index.test/simple/av/ and user@example.com"
