"""Gets livekit-client for pages: from the user's cache, else by ``npm pack``, which uses the registry that npm is set to.

Only the pinned release counts, whatever the registry sends: the archive is checked before it is opened, and whoever
serves the file checks that again (``read_client``).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from voiceops.adapters.binaries.progress import OnProgress, Progress, cache_folder
from voiceops.errors import ConfigError, StorageError, VoiceopsError
from voiceops.util.atomic_write import write_atomically

VERSION = "2.23.0"
ARCHIVE_SHA512 = (
    "8fd2a0f3a9c98c18cd1540feba4a768f030219ad24f980f9814fff47300cf996"
    "37a5b1badf5402b5eedf423c2a58c9ad07384324bf67298b8e2ccbfff486c0c6"
)
SHA256 = "fb646f2260d84f91238d0a2dc10726c456631d6a26c7cafc43cfee5959b4d31d"
_MEMBER = "package/dist/livekit-client.umd.js"
_TIMEOUT_S = 120.0


def client_path(configured: str | None) -> Path:
    """Where the file is, or will be once it is fetched."""
    if configured:
        return Path(configured).expanduser().absolute()
    return cache_folder() / "livekit-client" / VERSION / "livekit-client.umd.js"


def livekit_client(configured: str | None, *, on_progress: OnProgress) -> Path:
    """The file of the pinned release, fetched when there is none. Safe to call by several processes at once.

    ``ConfigError`` for a configured file that is not the pinned one, ``VoiceopsError`` where it can't be fetched.
    """
    path = client_path(configured)
    if configured:
        read_client(path)
    elif not path.is_file():
        _fetch(path, on_progress)
    return path


def read_client(path: Path) -> bytes:
    """The content of the file; ``ConfigError`` unless it is the pinned release."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"livekit-client can't be read: {path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ConfigError(
            f"{path} is not the file livekit-client.umd.js of livekit-client {VERSION}",
            hint=f"take dist/livekit-client.umd.js of the npm package livekit-client@{VERSION}, or delete it: it is fetched",
        )
    return content


def _fetch(target: Path, on_progress: OnProgress) -> None:
    npm = shutil.which("npm")
    hint = f"name the file: services: {{web: {{client: PATH}}}} (dist/livekit-client.umd.js of livekit-client {VERSION})"
    if npm is None:
        raise VoiceopsError(
            "livekit-client is fetched by npm, which is not on PATH", hint=f"install npm, or {hint}"
        )
    on_progress(Progress(doing=f"fetching livekit-client {VERSION} by npm"))
    with tempfile.TemporaryDirectory(prefix="voiceops-npm-") as folder:
        command = [npm, "pack", "--silent", "--ignore-scripts", f"livekit-client@{VERSION}"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise VoiceopsError(
                f"npm pack livekit-client failed: {error}", hint=hint, retryable=True
            ) from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            tail = tuple(done.stderr.strip().splitlines()[-5:])
            raise VoiceopsError("npm pack livekit-client failed", hint=hint, log_tail=tail, retryable=True)
        content = archive_content(archives[0].read_bytes(), Path(folder))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    except OSError as error:
        raise StorageError(f"can't write to {target.parent}: {error.strerror or error}") from error


def archive_content(archive: bytes, folder: Path) -> bytes:
    """The file in an archive of the pinned release; ``VoiceopsError`` for any other archive."""
    if hashlib.sha512(archive).hexdigest() != ARCHIVE_SHA512:
        raise VoiceopsError(
            f"the archive of livekit-client {VERSION} does not match its pinned hash; refused"
        )
    path = folder / "checked.tgz"
    path.write_bytes(archive)
    with tarfile.open(path) as tar:
        member = tar.extractfile(_MEMBER)
        assert member is not None
        return member.read()
