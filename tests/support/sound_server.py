"""A sound server whose only device is a null sink: browsers need one to run their audio contexts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support import parts

_UP_S = 20.0


@contextmanager
def sound_server() -> Iterator[Mapping[str, str]]:
    """Run PulseAudio until the block ends; the environment by which programs find it."""
    program = parts.pulseaudio()
    folder = Path(tempfile.mkdtemp(prefix="voiceops-sound-"))
    socket = folder / "native"
    modules = (f"module-native-protocol-unix socket={socket} auth-anonymous=1", "module-null-sink")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-n", "--daemonize=no", "--exit-idle-time=-1", *(f"--load={one}" for one in modules)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        )
    try:
        ends_at = time.monotonic() + _UP_S
        while not socket.exists():
            assert time.monotonic() < ends_at, (folder / "log").read_text()
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield {"PULSE_SERVER": f"unix:{socket}"}
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(_UP_S)
        shutil.rmtree(folder, ignore_errors=True)
