"""Is a service ready? One function per kind of probe; each answers once and at once."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voiceops.adapters import http
from voiceops.errors import UnreachableError


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Whether the service can do its job, and what was seen."""

    ok: bool
    detail: str = ""
    refused: bool = False
    """It was asked with a password that it does not take."""


def probe_http(url: str, *, timeout_s: float = 2.0) -> ProbeResult:
    """Ready when the URL answers 200."""
    try:
        answer = http.get(url, timeout_s=timeout_s)
    except UnreachableError as error:
        return ProbeResult(False, error.message)
    text = answer.body[:80].decode(errors="replace").strip()
    return ProbeResult(answer.status == 200, f"{url} answers {answer.status} {text}".rstrip())


def probe_tcp(address: str, *, timeout_s: float = 2.0) -> ProbeResult:
    """Ready when HOST:PORT accepts a connection."""
    host, _, port = address.rpartition(":")
    ok = http.accepts(host.strip("[]") or "127.0.0.1", int(port), timeout_s=timeout_s)
    return ProbeResult(ok, f"{address} {'accepts' if ok else 'refuses'} connections")


def probe_log(log_file: Path, offset: int, pattern: str) -> ProbeResult:
    """Ready when a line written since ``offset`` matches."""
    try:
        with log_file.open("rb") as file:
            file.seek(offset if offset <= file.seek(0, 2) else 0)  # shorter than that: it was rotated
            text = file.read().decode(errors="replace")
    except OSError as error:
        return ProbeResult(False, f"can't read {log_file.name}: {error.strerror}")
    found = re.search(pattern, text, re.MULTILINE) is not None
    return ProbeResult(found, f"{'a' if found else 'no'} line of the log matches {pattern!r}")


def probe_command(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    refusals: Sequence[str] = (),
    timeout_s: float = 5.0,
) -> ProbeResult:
    """Ready when the command exits 0; ``env`` adds variables to this process's.

    ``refusals``: the clients of databases exit alike for a refused password and for a server that is away, and
    only their text tells which.
    """
    try:
        ended = subprocess.run(
            list(argv),
            cwd=cwd,
            env={**os.environ, **env} if env else None,
            timeout=timeout_s,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ProbeResult(False, f"{argv[0]} gave no answer in {timeout_s:g} s")
    except OSError as error:
        return ProbeResult(False, f"can't run {argv[0]}: {error.strerror}")
    said = (ended.stderr or ended.stdout).decode(errors="replace").strip()
    last = said.splitlines()[-1:]
    return ProbeResult(
        ended.returncode == 0,
        f"{argv[0]} exits {ended.returncode}" + "".join(f": {x}" for x in last),
        refused=ended.returncode != 0 and any(text in said for text in refusals),
    )
