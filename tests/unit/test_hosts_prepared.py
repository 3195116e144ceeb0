"""The layers of prepared hosts stay within their bound, and none goes that is in use."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tests.support.hosts_prepared import limit_layers

LAYER_BYTES = 1_000_000


def layer(folder: Path, name: str, used_at: float) -> Path:
    made = folder / name
    made.mkdir()
    (made / "content").write_bytes(os.urandom(LAYER_BYTES))
    os.utime(made, (used_at, used_at))
    return made


def test_the_longest_unused_layers_go_and_none_that_is_in_use(tmp_path: Path) -> None:
    in_use, oldest, old, new = (layer(tmp_path, name, at) for at, name in enumerate(("a", "b", "c", "d")))
    with (tmp_path / "a.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        limit_layers(tmp_path, keep=new, limit_bytes=2 * LAYER_BYTES + LAYER_BYTES // 2)
        assert [one.exists() for one in (in_use, oldest, old, new)] == [True, False, True, True]
    limit_layers(tmp_path, keep=new, limit_bytes=0)
    assert [one.name for one in tmp_path.iterdir()] == ["d"], "the layer of this run stays, whatever it takes"
