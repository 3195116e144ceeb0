"""Templates are strict, and compiled once; a cache that others can write is not used."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import jinja2
import pytest

from voiceops.config.source import templating


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    templating._environment.cache_clear()
    this = hashlib.sha256(Path(templating.__file__).read_bytes()).hexdigest()[:12]
    return tmp_path / "cache" / "voiceops" / "templates" / this


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "templates"
    made.mkdir()
    (made / "one").write_text("port {{ port }}\n")
    return made


def render(folder: Path, **values: object) -> str:
    templating._environment.cache_clear()  # as the next command does
    return templating.environment([folder]).get_template("one").render(**values)


def test_the_compiled_form_is_kept_for_the_user_alone_and_follows_the_text(cache: Path, folder: Path) -> None:
    assert render(folder, port=1) == "port 1\n"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    kept = list(cache.iterdir())
    assert kept
    assert all(b"secret-of-the-test" not in one.read_bytes() for one in kept)
    (folder / "one").write_text("port={{ port }}\n")
    assert render(folder, port="secret-of-the-test") == "port=secret-of-the-test\n"
    assert all(b"secret-of-the-test" not in one.read_bytes() for one in cache.iterdir())


def test_an_undefined_name_is_an_error(cache: Path, folder: Path) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render(folder)


def test_a_cache_that_others_can_write_is_left_alone(cache: Path, folder: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert render(folder, port=1) == "port 1\n"
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(cache: Path, folder: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert render(folder, port=1) == "port 1\n"
