"""Gets livekit-client for pages: from the user's cache, else by ``npm pack``, which uses the registry that npm is set to,
else from an address that the inventory names.

Only the pinned release counts, whatever a source sends: an archive is checked before it is opened, and whoever
serves the file checks that again (``read_client``).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from functools import partial
from pathlib import Path

from voiceops.adapters import http
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
_URL_TIMEOUT_S = 30.0


def client_path(configured: str | None) -> Path:
    """Where the file is, or will be once it is fetched."""
    if configured:
        return Path(configured).expanduser().absolute()
    return cache_folder() / "livekit-client" / VERSION / "livekit-client.umd.js"


def livekit_client(configured: str | None, *, url: str = "", on_progress: OnProgress) -> Path:
    """The file of the pinned release, fetched when there is none: by npm, else from ``url``. Safe to call by several processes at once.

    ``ConfigError`` for a configured file that is not the pinned one, ``VoiceopsError`` where it can't be fetched.
    """
    path = client_path(configured)
    if configured:
        read_client(path)
    elif not path.is_file():
        _fetch(path, url, on_progress)
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


def _fetch(target: Path, url: str, on_progress: OnProgress) -> None:
    """Take it from the first source that has the pinned file."""
    causes: list[str] = []
    content = None
    for source in (_by_npm, partial(_from_url, url)) if url else (_by_npm,):
        try:
            content = source(on_progress)
            break
        except VoiceopsError as error:
            causes += [error.message, *error.log_tail]
            on_progress(Progress(doing=error.message))
    if content is None:
        raise VoiceopsError(
            f"livekit-client {VERSION} can't be fetched: {causes[0]}",
            hint=f"name an address that has it, services: {{web: {{client_url: URL}}}}, or the file itself, client: PATH"
            f" (dist/livekit-client.umd.js of the npm package livekit-client@{VERSION})",
            log_tail=tuple(causes[1:]),
            retryable=True,
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    except OSError as error:
        raise StorageError(f"can't write to {target.parent}: {error.strerror or error}") from error


def _by_npm(on_progress: OnProgress) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise VoiceopsError("npm is not on PATH")
    on_progress(Progress(doing=f"fetching livekit-client {VERSION} by npm"))
    with tempfile.TemporaryDirectory(prefix="voiceops-npm-") as folder:
        command = [npm, "pack", "--silent", "--ignore-scripts", f"livekit-client@{VERSION}"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise VoiceopsError(f"npm pack livekit-client failed: {error}") from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            tail = tuple(done.stderr.strip().splitlines()[-5:])
            raise VoiceopsError("npm pack livekit-client failed", log_tail=tail)
        return archive_content(archives[0].read_bytes(), Path(folder))


def _from_url(url: str, on_progress: OnProgress) -> bytes:
    on_progress(Progress(doing=f"fetching livekit-client {VERSION} from {url}"))
    answer = http.get(url, timeout_s=_URL_TIMEOUT_S)
    if answer.status != 200:
        raise VoiceopsError(f"{url} answers {answer.status}")
    if hashlib.sha256(answer.body).hexdigest() != SHA256:
        raise VoiceopsError(f"what {url} has does not match the pinned hash; refused")
    return answer.body


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
