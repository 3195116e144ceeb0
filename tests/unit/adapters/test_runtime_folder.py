"""The folder for sockets and locks is this user's alone, whoever came first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from voiceops.adapters import runtime_folder as module
from voiceops.adapters.runtime_folder import make_private, runtime_folder
from voiceops.errors import StorageError

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
NOBODY = 65534


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /tmp; nobody is logged in."""
    monkeypatch.setattr(module, "_TEMPORARY", tmp_path / "tmp")
    monkeypatch.setattr(module, "_SESSIONS", tmp_path / "sessions")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp" / f"voiceops-{os.getuid()}"


def log_in(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions" / str(os.getuid())
    folder.mkdir(mode=0o700, parents=True)
    return folder


@pytest.mark.parametrize("outlives_session", [True, False])
def test_without_a_session_it_is_below_tmp(temporary: Path, outlives_session: bool) -> None:
    folder = runtime_folder(outlives_session=outlives_session)
    make_private(folder)
    make_private(folder)
    assert folder == temporary
    assert folder.stat().st_mode & 0o777 == 0o700


def test_locks_are_in_the_sessions_folder_and_sockets_of_services_where_a_logout_leaves_them(
    temporary: Path, tmp_path: Path
) -> None:
    session = log_in(tmp_path)
    assert runtime_folder(outlives_session=False) == session / "voiceops"
    assert runtime_folder(outlives_session=True) == temporary


def test_the_variable_wins_over_the_usual_place_of_the_session(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = log_in(tmp_path)
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own))
    assert runtime_folder(outlives_session=False) == own / "voiceops"
    own.chmod(0o777)  # anybody could exchange what is in it
    assert runtime_folder(outlives_session=False) == session / "voiceops"


def test_a_link_that_stands_in_its_place_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    temporary.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="belongs to another user"):
        runtime_folder(outlives_session=True)
    with pytest.raises(StorageError):
        make_private(temporary)


def test_a_folder_that_others_can_write_to_does_not_count(temporary: Path) -> None:
    temporary.mkdir()
    temporary.chmod(0o777)
    with pytest.raises(StorageError):
        runtime_folder(outlives_session=True)


@AS_ROOT
def test_where_another_user_came_first_the_session_has_the_folder(temporary: Path, tmp_path: Path) -> None:
    temporary.mkdir(mode=0o700)
    os.chown(temporary, NOBODY, NOBODY)
    with pytest.raises(StorageError):
        runtime_folder(outlives_session=False)
    session = log_in(tmp_path)
    assert runtime_folder(outlives_session=True) == session / "voiceops"
