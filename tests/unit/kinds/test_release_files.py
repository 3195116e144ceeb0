"""Which files make a release."""

from __future__ import annotations

from pathlib import Path

from voiceops.kinds.release_files import release_digest, release_files


def test_a_release_leaves_out_hidden_files_bytecode_logs_and_environments(tmp_path: Path) -> None:
    for name in (
        "agent.py",
        "lib/util.py",
        ".env",
        ".git/x",
        "__pycache__/a.pyc",
        "venv/pyvenv.cfg",
        "a.log",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [path.as_posix() for path in release_files(tmp_path, ["**/*"])] == ["agent.py", "lib/util.py"]
    assert [path.as_posix() for path in release_files(tmp_path, ["lib/*"])] == ["lib/util.py"]
    digest = release_digest(tmp_path, ["**/*"])
    (tmp_path / ".env").write_text("changed")
    assert release_digest(tmp_path, ["**/*"]) == digest
    (tmp_path / "lib" / "util.py").write_text("changed")
    assert release_digest(tmp_path, ["**/*"]) != digest
