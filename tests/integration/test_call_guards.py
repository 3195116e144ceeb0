"""Nothing ends a live call unasked when LiveKit can't say who is there."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from livekit import rtc

from tests.support.callers import caller
from tests.support.documents import error_of
from tests.support.live import API_SECRET
from tests.support.projects import Project, project

pytestmark = [
    pytest.mark.timeout(480),
    # livekit.rtc drops a handle twice when its server goes away under it; nothing of ours.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """LiveKit alone: no agent names its calls."""
    with project(tmp_path_factory.mktemp("server")) as made:
        made.inv("start")
        yield made


@asynccontextmanager
async def a_caller(made: Project, room: str) -> AsyncIterator[rtc.Room]:
    """Somebody in a room, who must still be connected at the end."""
    async with caller(made.url, room) as person:
        lost: list[object] = []
        person.on("disconnected", lost.append)
        yield person
        assert not lost
        assert person.isconnected()


async def refusal(made: Project, *arguments: str) -> dict[str, Any]:
    answer = await asyncio.to_thread(made.inv, *arguments, "--json", code=1)
    return error_of(answer.json)


@contextmanager
def rotated_secret(made: Project) -> Iterator[None]:
    made.env["LIVEKIT_API_SECRET"] = "another-secret-for-tests-of-32-characters"
    try:
        yield
    finally:
        made.env["LIVEKIT_API_SECRET"] = API_SECRET


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
async def test_after_a_rotation_the_running_server_is_asked_with_its_own_secret(
    server: Project, verb: str
) -> None:
    before = server.pid("livekit")
    async with a_caller(server, "on-the-line"):
        with rotated_secret(server):
            error = await refusal(server, verb)
        assert (error["type"], error["rooms"]) == ("CallsInProgressError", ["on-the-line"])
    assert server.pid("livekit") == before


@contextmanager
def config_of_running_server(made: Project, port: int | None) -> Iterator[None]:
    """Lead the question about calls to another port, or leave nobody to know the server's keys."""
    file = made.folder / ".voiceops" / "livekit.yaml"
    text = file.read_text()
    if port is None:
        file.unlink()
    else:
        file.write_text(text.replace(f"port: {made.url.rpartition(':')[2]}", f"port: {port}", 1))
    try:
        yield
    finally:
        file.write_text(text)


async def test_a_server_that_refuses_all_our_keys_is_not_ended_unasked(server: Project) -> None:
    async with a_caller(server, "on-the-line"):
        with rotated_secret(server), config_of_running_server(server, None):
            for command in (["stop"], ["start"], ["restart"], ["stop", "--now"], ["stop", "--drain", "1"]):
                error = await refusal(server, *command)
                assert (error["type"], error["rooms"]) == ("CallsUnknownError", [])
                assert error["caused_by"]["type"] == "CredentialsError"
                assert "--yes" in error["hint"]


class StandIn(ThreadingHTTPServer):
    """Answers in LiveKit's place, as badly as it is told."""

    daemon_threads = True
    status, body, late_s = 200, b"", 0.0


class Bad(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        how = self.server
        assert isinstance(how, StandIn)
        time.sleep(how.late_s)
        try:
            self.send_response(how.status)
            self.send_header("Content-Length", str(len(how.body)))
            self.end_headers()
            self.wfile.write(how.body)
        except OSError:
            return  # nobody waited for it

    def log_message(self, format: str, *arguments: object) -> None:
        return


@contextmanager
def stand_in(
    *, status: int = 200, body: bytes = b"", late_s: float = 0.0, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    with StandIn(("127.0.0.1", 0), Bad) as bad:
        bad.status, bad.body, bad.late_s = status, body, late_s
        if tls is not None:
            bad.socket = tls.wrap_socket(bad.socket, server_side=True)
        thread = threading.Thread(target=bad.serve_forever)
        thread.start()
        try:
            yield int(bad.server_address[1])
        finally:
            bad.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 503},
        {"status": 500, "body": b'{"code": "internal", "msg": "no"}'},
        {"status": 406, "body": b"Not Ready"},
        {"status": 429},
        {"body": b"<html>hello</html>"},
        {"late_s": 20.0},
    ],
    ids=str,
)
async def test_an_error_or_a_late_answer_leaves_the_calls_unknown(
    server: Project, answer: dict[str, Any]
) -> None:
    async with a_caller(server, "on-the-line"):
        with stand_in(**answer) as port, config_of_running_server(server, port):
            error = await refusal(server, "stop")
        assert error["type"] == "CallsUnknownError"


@pytest.fixture
def nobodys_certificate(tmp_path: Path) -> ssl.SSLContext:
    """Made by nobody whom clients trust, for another name."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=elsewhere.example.com", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def configured_url(made: Project, url: str) -> Iterator[None]:
    """The inventory says that LiveKit is there."""
    before = made.variables["livekit"]["url"]
    made.variables["livekit"]["url"] = url
    made.write()
    try:
        yield
    finally:
        made.variables["livekit"]["url"] = before
        made.write()


async def test_behind_a_certificate_that_is_not_valid_the_calls_are_unknown(
    server: Project, nobodys_certificate: ssl.SSLContext
) -> None:
    async with a_caller(server, "on-the-line"):
        with (
            stand_in(tls=nobodys_certificate) as port,
            config_of_running_server(server, port),
            configured_url(server, f"wss://127.0.0.1:{port}"),
        ):
            for command in (["stop"], ["stop", "--now"]):
                error = await refusal(server, *command)
                assert error["type"] == "CallsUnknownError"
                assert "certificate" in error["caused_by"]["message"]


async def test_where_livekit_speaks_no_tls_the_calls_are_unknown(server: Project) -> None:
    async with a_caller(server, "on-the-line"):
        with configured_url(server, server.url.replace("ws://", "wss://")):
            error = await refusal(server, "stop")
        assert error["type"] == "CallsUnknownError"


async def test_a_server_that_stands_still_for_seconds_keeps_its_calls(server: Project) -> None:
    pid = server.pid("livekit")
    async with a_caller(server, "on-the-line"):
        os.kill(pid, signal.SIGSTOP)
        try:
            error = await refusal(server, "stop")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert error["type"] == "CallsUnknownError"
    assert server.pid("livekit") == pid


def test_a_server_that_is_gone_has_no_calls(server: Project) -> None:
    os.kill(server.pid("livekit"), signal.SIGKILL)
    with rotated_secret(server):
        server.inv("stop")
    server.inv("start")


def test_an_empty_server_is_stopped_without_a_question_after_a_rotation(server: Project) -> None:
    with rotated_secret(server):
        server.inv("restart")
    server.inv("restart")
