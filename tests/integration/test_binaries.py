"""Fetching livekit-server from a release server of our own, with what goes wrong on the way."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import platform
import resource
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import parts
from voiceops.adapters.binaries import fetch as binaries_fetch
from voiceops.adapters.binaries.elf import go_module_version, machine_of
from voiceops.adapters.binaries.find import livekit_server
from voiceops.adapters.binaries.progress import Progress
from voiceops.errors import ConfigError, StorageError, VoiceopsError

VERSION = "9.8.7"
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
ARCHIVE = f"livekit_{VERSION}_linux_{MACHINE}.tar.gz"
OTHER, OTHER_GO, OTHER_ELF = ("aarch64", "arm64", 183) if MACHINE == "amd64" else ("x86_64", "amd64", 62)
BUILD = binaries_fetch._build
BUILT = "1.2.3"
"""Go takes a 9 only from a module whose path ends with it."""
GO_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "go-build"


class Releases:
    """What the release server has, how it misbehaves, and what it was asked for."""

    def __init__(self) -> None:
        self.name = ARCHIVE
        self.archive = archive(f"#!/bin/sh\necho livekit-server version {VERSION}\n")
        self.checksum = hashlib.sha256(self.archive).hexdigest()
        self.cut_after: int | None = None
        self.requests: list[tuple[str, str]] = []
        self.url = ""


def archive(binary: str | bytes) -> bytes:
    """A release archive; padded, so that it can be cut half way."""
    program = binary.encode() if isinstance(binary, str) else binary
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in (("LICENSE", os.urandom(600_000)), ("livekit-server", program)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def releases() -> Iterator[Releases]:
    known = Releases()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            known.requests.append((self.path.rsplit("/", 1)[-1], wanted))
            if self.path == f"/v{VERSION}/checksums.txt":
                content = f"{known.checksum}  {known.name}\n".encode()
            elif self.path == f"/v{VERSION}/{known.name}":
                content = known.archive
            else:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if known.cut_after and self.path.endswith(".gz"):
                self.wfile.write(content[start : known.cut_after])
                known.cut_after = None
                return
            self.wfile.write(content[start:])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and neither a livekit-server nor a Go on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    def no_go(*_: object) -> None:
        raise VoiceopsError("no Go here")

    monkeypatch.setattr(binaries_fetch, "_build", no_go)
    return tmp_path / "voiceops" / "livekit-server" / VERSION


def fetch(releases: Releases, seen: list[Progress] | None = None) -> Path:
    return livekit_server(
        VERSION, None, on_progress=(seen if seen is not None else []).append, releases=releases.url
    )


def files(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {".lock"}


def test_a_release_is_downloaded_checked_and_kept(releases: Releases, cache: Path) -> None:
    seen: list[Progress] = []
    binary = fetch(releases, seen)
    assert binary == cache / "livekit-server"
    assert VERSION in subprocess.run([binary], capture_output=True, text=True, check=True).stdout
    assert seen[-1].done == seen[-1].total == len(releases.archive)
    assert str(seen[-1]).endswith("(100 %)")
    assert files(cache) == {"livekit-server"}

    releases.requests.clear()
    assert fetch(releases) == binary
    assert releases.requests == []


def test_an_interrupted_download_goes_on_where_it_stopped(releases: Releases, cache: Path) -> None:
    releases.cut_after = 250_000
    fetch(releases)
    ranges = [wanted for name, wanted in releases.requests if name == ARCHIVE]
    assert ranges == ["", "bytes=250000-"]


def test_an_archive_that_does_not_match_its_checksum_is_refused(releases: Releases, cache: Path) -> None:
    releases.checksum = "0" * 64
    with pytest.raises(VoiceopsError) as failure:
        fetch(releases)
    assert "does not match its checksum" in failure.value.log_tail[0]
    assert files(cache) == set()


def test_a_binary_that_says_another_version_is_refused(releases: Releases, cache: Path) -> None:
    releases.archive = archive("#!/bin/sh\necho livekit-server version 1.0.0\n")
    releases.checksum = hashlib.sha256(releases.archive).hexdigest()
    with pytest.raises(VoiceopsError) as failure:
        fetch(releases)
    assert "says it is 1.0.0, not 9.8.7" in failure.value.log_tail[0]


def test_when_no_source_has_it_the_error_names_every_cause(cache: Path) -> None:
    nowhere = f"http://127.0.0.1:{parts.free_port()}"
    with pytest.raises(VoiceopsError) as failure:
        livekit_server(VERSION, None, on_progress=lambda _: None, releases=nowhere)
    assert failure.value.log_tail == ("127.0.0.1 can't be reached: Connection refused", "no Go here")
    assert failure.value.hint is not None


def test_fifty_at_once_download_once(releases: Releases, cache: Path) -> None:
    program = (
        "import sys; from voiceops.adapters.binaries.find import livekit_server;"
        f"print(livekit_server({VERSION!r}, None, on_progress=lambda p: None, releases={releases.url!r}))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(50)
    ]
    answers = {process.communicate(timeout=60)[0].strip() for process in running}
    assert answers == {str(cache / "livekit-server")}
    assert [name for name, _ in releases.requests] == ["checksums.txt", ARCHIVE]


def test_a_write_that_fails_is_a_storage_error_and_leaves_no_binary(releases: Releases, cache: Path) -> None:
    program = (
        "import signal, sys; from voiceops.adapters.binaries.find import livekit_server;"
        "from voiceops.errors import StorageError;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n"
        f"    livekit_server({VERSION!r}, None, on_progress=lambda p: None, releases={releases.url!r})\n"
        "except StorageError as error:\n    print(error)"
    )

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "can't write to" in done.stdout, done.stderr
    assert not (cache / "livekit-server").exists()


def test_a_configured_binary_is_taken_as_it_is_or_refused(tmp_path: Path) -> None:
    binary = tmp_path / "my-server"
    with pytest.raises(ConfigError, match="does not exist"):
        livekit_server(VERSION, str(binary), on_progress=lambda _: None)
    binary.write_text("#!/bin/sh\n")
    with pytest.raises(ConfigError, match="can't be executed"):
        livekit_server(VERSION, str(binary), on_progress=lambda _: None)
    binary.chmod(0o755)
    assert livekit_server(VERSION, str(binary), on_progress=lambda _: None) == binary


def test_a_server_on_path_counts_only_in_the_right_version_and_is_asked_once(
    tmp_path: Path, releases: Releases, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    server = tools / "livekit-server"
    server.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\necho livekit-server version {VERSION}\n")
    server.chmod(0o755)
    assert fetch(releases) == server
    assert fetch(releases) == server
    assert (tmp_path / "asked").read_text() == "asked\n"

    server.write_text("#!/bin/sh\necho livekit-server version 1.0.0\n")
    assert fetch(releases) == cache / "livekit-server"


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="no version"):
        livekit_server("../../etc", None, on_progress=lambda _: None)


def test_a_cache_that_can_not_be_made_is_a_storage_error(releases: Releases, tmp_path: Path) -> None:
    (tmp_path / "voiceops").write_text("in the way")
    with pytest.raises(StorageError):
        fetch(releases)


def elf(machine: int, version: str) -> bytes:
    """As much of a program as says what it is made for, and which version Go built."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine.to_bytes(2, "little")
    return header + bytes(64) + f"path\nmod\t{binaries_fetch.MODULE}\tv{version}\th1:=\n".encode()


def offer(releases: Releases, program: bytes) -> None:
    releases.name = f"livekit_{VERSION}_linux_{OTHER_GO}.tar.gz"
    releases.archive = archive(program)
    releases.checksum = hashlib.sha256(releases.archive).hexdigest()


def fetch_for_other(releases: str, version: str = VERSION) -> Path:
    return livekit_server(version, None, machine=OTHER, on_progress=lambda _: None, releases=releases)


def test_a_host_of_another_architecture_gets_its_own_release_once(releases: Releases, cache: Path) -> None:
    offer(releases, elf(OTHER_ELF, VERSION))
    binary = fetch_for_other(releases.url)
    assert binary == cache.parent / f"{VERSION}-linux-{OTHER}" / "livekit-server"
    releases.requests.clear()
    assert fetch_for_other(releases.url) == binary
    assert releases.requests == []


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (elf(40, VERSION), f"is made for armv7l, not {OTHER}"),
        (b"#!/bin/sh\n", f"not {OTHER}"),
        (elf(OTHER_ELF, "1.0.0"), f"says it is 1.0.0, not {VERSION}"),
    ],
)
def test_a_release_that_can_not_be_tried_here_is_refused_by_what_its_file_says(
    releases: Releases, program: bytes, said: str
) -> None:
    offer(releases, program)
    with pytest.raises(VoiceopsError) as failure:
        fetch_for_other(releases.url)
    assert said in failure.value.log_tail[0]


def test_go_builds_for_another_architecture_where_no_release_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real Go and a module of our own under LiveKit's name: its own takes minutes."""
    monkeypatch.setattr(binaries_fetch, "_build", BUILD)
    _module(tmp_path / "proxy")
    for name, value in {
        "GOPROXY": (tmp_path / "proxy").as_uri(),
        "GOSUMDB": "off",
        "GOFLAGS": "-modcacherw",
        "GOMODCACHE": str(tmp_path / "modules"),
        "GOCACHE": str(GO_CACHE),
        "GOBIN": str(tmp_path / "in-the-way"),
    }.items():
        monkeypatch.setenv(name, value)
    binary = fetch_for_other(f"http://127.0.0.1:{parts.free_port()}", BUILT)
    assert machine_of(binary) == OTHER
    assert go_module_version(binary, binaries_fetch.MODULE) == BUILT
    assert {path.name for path in binary.parent.iterdir()} == {"livekit-server", ".lock"}


def _module(proxy: Path) -> None:
    """A file tree that Go takes for a proxy, with one version of one module in it."""
    folder = proxy / binaries_fetch.MODULE / "@v"
    folder.mkdir(parents=True)
    module = f"module {binaries_fetch.MODULE}\n\ngo 1.21\n"
    program = 'package main\n\nfunc main() { println("stand-in") }\n'
    (folder / "list").write_text(f"v{BUILT}\n")
    (folder / f"v{BUILT}.info").write_text(f'{{"Version": "v{BUILT}"}}')
    (folder / f"v{BUILT}.mod").write_text(module)
    with zipfile.ZipFile(folder / f"v{BUILT}.zip", "w") as packed:
        root = f"{binaries_fetch.MODULE}@v{BUILT}"
        packed.writestr(f"{root}/go.mod", module)
        packed.writestr(f"{root}/cmd/server/main.go", program)


def test_a_configured_binary_for_another_architecture_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "my-server"
    binary.write_bytes(Path(sys.executable).resolve().read_bytes())
    binary.chmod(0o755)
    with pytest.raises(ConfigError, match=f"the host is {OTHER}"):
        livekit_server(VERSION, str(binary), machine=OTHER, on_progress=lambda _: None)
    binary.write_bytes(elf(OTHER_ELF, VERSION))
    assert livekit_server(VERSION, str(binary), machine=OTHER, on_progress=lambda _: None) == binary
