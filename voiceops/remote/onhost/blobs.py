"""Content that the host lacks: asked for by hash, resumed, checked, kept until it is used."""

from __future__ import annotations

import errno
import os

from voiceops.remote.onhost.base import Failed
from voiceops.remote.onhost.channel import Channel
from voiceops.remote.onhost.disk import expect_space, no_space, remove_quietly, sync_path, write_all
from voiceops.remote.onhost.hashes import file_sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any

IN_MEMORY_BYTES = 256 * 1024
"""Smaller content, and all secret content, never touches the blob folder."""


class Blobs:
    """The store of one run: small and secret ones in memory, big ones in ``STATE/blobs``."""

    def __init__(self, folder: str, channel: Channel) -> None:
        self._folder = os.path.join(folder, "blobs")
        self._channel = channel
        self._memory: dict[str, bytes] = {}
        self._secret: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._uses: dict[str, int] = {}
        self._checked: set[str] = set()
        """Stored ones that this run has received or read back."""

    def mark_secret(self, sha256: str) -> None:
        self._secret.add(sha256)

    def expect_use(self, sha256: str) -> None:
        """Say once per place that will need it: the last one takes the stored file itself."""
        self._uses[sha256] = self._uses.get(sha256, 0) + 1

    def path(self, sha256: str) -> str:
        return os.path.join(self._folder, sha256)

    def _small(self, sha256: str, size: int) -> bool:
        return sha256 in self._secret or size <= IN_MEMORY_BYTES

    def has(self, sha256: str, size: int) -> bool:
        """Whether the content is here; a stored file counts once its size and hash say so, and is removed else."""
        path = self.path(sha256)
        if sha256 in self._memory or not os.path.exists(path):
            return sha256 in self._memory
        if sha256 not in self._checked:
            if os.path.getsize(path) != size or file_sha256(path) != sha256:
                os.unlink(path)
                return False
            self._checked.add(sha256)
        return True

    def fetch(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Get what is lacking in one question; an interrupted upload goes on where it stopped."""
        needs: list[dict[str, Any]] = []
        for sha256, size in dict(wanted).items():
            if self.has(sha256, size):
                continue
            have = 0
            if not self._small(sha256, size):
                os.makedirs(self._folder, 0o700, exist_ok=True)
                have = self._partial(sha256, size)
                expect_space(self._folder, size - have)
            self._sizes[sha256] = size
            # A power cut can leave a file of the right length and zeros in it: the sender compares.
            begins = file_sha256(self.path(sha256) + ".part") if have else ""
            needs.append({"sha256": sha256, "size": size, "have": have, "begins": begins})
        if needs:
            self._channel.receive(needs, self._sink)
            self._checked.update(need["sha256"] for need in needs)

    def _partial(self, sha256: str, size: int) -> int:
        try:
            have = os.path.getsize(self.path(sha256) + ".part")
        except FileNotFoundError:
            return 0
        return have if have <= size else 0

    def _sink(self, sha256: str, length: int) -> _Sink:
        size = self._sizes[sha256]
        path = None if self._small(sha256, size) else self.path(sha256)
        return _Sink(path, sha256, size - length, self._memory)

    def read(self, sha256: str, size: int) -> bytes:
        """The content of a small or secret blob."""
        self.fetch([(sha256, size)])
        if sha256 not in self._memory:
            with open(self.path(sha256), "rb") as file:
                return file.read()
        return self._memory[sha256]

    def place(self, sha256: str, size: int, target: str) -> None:
        """Write the content to ``target``, a new file; a big blob moves there when it can."""
        self.fetch([(sha256, size)])
        try:
            if sha256 in self._memory:
                _write_file(target, self._memory[sha256])
                return
            self._uses[sha256] = self._uses.get(sha256, 1) - 1
            if self._uses[sha256] <= 0 and _moved(self.path(sha256), target):
                return
            _copy_file(self.path(sha256), target)
        except OSError as error:
            remove_quietly(target)
            remove_quietly(self.path(sha256))  # a disk that is full somewhere is not filled elsewhere
            raise no_space(error, target) from None

    def expect_room(self, folder: str, size: int) -> None:
        """Refuse before the upload what ``folder``, on a disk of its own, can't take."""
        home = self._folder
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        while not os.path.isdir(home):
            home = os.path.dirname(home)
        if size > IN_MEMORY_BYTES and os.stat(folder).st_dev != os.stat(home).st_dev:
            expect_space(folder, size)

    def clear(self) -> None:
        """After a run that reached the desired state: what an aborted one left is litter."""
        if os.path.isdir(self._folder):
            for name in os.listdir(self._folder):
                if len(name.partition(".")[0]) == 64:  # a hash
                    remove_quietly(os.path.join(self._folder, name))


class _Sink:
    """Where one blob goes; a damaged or unwritable one leaves nothing, a cut one what it has."""

    def __init__(self, path: str | None, sha256: str, have: int, memory: dict[str, bytes]) -> None:
        self._path = path
        self._sha256 = sha256
        self._have = have
        self._memory = memory
        self._pieces: list[bytes] = []
        self._fd = -1

    def __enter__(self) -> Callable[[bytes], None]:
        if self._path is None:
            return self._pieces.append
        self._fd = os.open(self._path + ".part", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, self._have)
        os.lseek(self._fd, self._have, os.SEEK_SET)
        return self._append

    def _append(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            assert self._path is not None
            remove_quietly(self._path + ".part")
            raise no_space(error, self._path) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is None:
            if kind is None:
                data = b"".join(self._pieces)
                import hashlib

                self._check(hashlib.sha256(data).hexdigest())
                self._memory[self._sha256] = data
            return
        try:
            if kind is None:
                # Its name says that it is whole: that must not be on disk before what it names.
                os.fsync(self._fd)
                self._check(file_sha256(self._path + ".part"))
                os.replace(self._path + ".part", self._path)
                sync_path(os.path.dirname(self._path))
        except OSError as error:
            raise no_space(error, self._path) from None
        finally:
            os.close(self._fd)

    def _check(self, found: str) -> None:
        if found == self._sha256:
            return
        if self._path is not None:
            remove_quietly(self._path + ".part")
        raise Failed("an upload arrived damaged; run again", kind="damaged")


def _moved(source: str, target: str) -> bool:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _write_file(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def _copy_file(source: str, target: str) -> None:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(source, "rb") as file:
            while True:
                data = file.read(1 << 20)
                if not data:
                    return
                write_all(fd, data)
    finally:
        os.close(fd)
