"""Pictures of the dashboard: ``python -m tests.support.dashboard_pictures`` writes docs/pictures/dashboard-*.png."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image

from tests.support.browser import Page, chromium
from tests.support.page_pictures import FOLDER, LOOKS, page_without_livekit
from voiceops.model.web import DashboardSettings
from voiceops.web.audit import AuditLog, new_entry

_HERE = "localhost"
_PRINT = "import sys, time; print(open(sys.argv[1]).read(), flush=True); time.sleep(float(sys.argv[2]))"
READY = "document.querySelectorAll('#findings li').length === 1"


def _service(name: str, now: float, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "host": _HERE,
        "name": name,
        "state": "ready",
        "pids": [4711],
        "detail": "",
        "restart_count": 0,
        "cpu_share": 0.03,
        "memory_bytes": 82_000_000,
        "call_count": 0,
        "draining": [],
        "draining_runs": [],
        "started_at": now - 93_600,
    }
    return row | changes


def _room(name: str, age_s: float, people: int, agent: str | None, now: float) -> dict[str, object]:
    return {"host": _HERE, "name": name, "created_at": now - age_s, "people": people, "agent": agent}


def _stack(now: float) -> dict[str, object]:
    return {"project": "frontdesk", "history_read": True, "history_error": "", "checked_at": now - 2}


def _host() -> dict[str, object]:
    read = {"services_read": True, "services_error": "", "rooms_read": True, "rooms_error": ""}
    return {**read, "has_rooms": True, "call_count": 2, "knows_agents": True}


def _call(number: int, now: float) -> dict[str, object]:
    lost = number in (1, 7)
    return {
        "started_at": now - 600 * number,
        "answer_s": None if lost else 0.35 + (number * 7919 % 13) / 30,
        "outcome": "unanswered" if lost else "answered",
        "detail": "",
    }


def _incident(number: str, sentence: str, began_at: float, ended_at: float | None) -> dict[str, object]:
    cause = {"host": _HERE, "cause": "dead", "subject": "agent", "fix": "inv start --only agent"}
    return {**cause, "id": number, "sentence": sentence, "began_at": began_at, "ended_at": ended_at}


def _repair(number: str, at: float, subject: str, **ended: object) -> dict[str, object]:
    return {"id": number, "at": at, "action": "start", "subject": subject, "error": "", **ended}


def sample(now: float) -> dict[str, object]:
    """A feed's line of a night in which an agent died twice: most states that there are."""
    no_module = "exit code 1: ModuleNotFoundError: No module named 'openai'"
    sections: dict[str, dict[str, dict[str, object]]] = {
        "stack": {"stack": _stack(now)},
        "hosts": {_HERE: _host()},
        "services": {
            "1": _service("livekit", now),
            "2": _service("agent", now, state="failed", pids=[], started_at=None, detail="exit code 1"),
            "3": _service("agent-de", now, call_count=2, restart_count=1, started_at=now - 3000),
            "4": _service("web", now, cpu_share=0.11),
            "5": _service("monitor", now, state="starting", started_at=now - 2),
        },
        "rooms": {
            "1": _room("web-7d1f0c7e24a1b3aa", 41, 1, None, now),
            "2": _room("web-0b6e1d1f2c3d4e5f", 203, 1, "agent-de", now),
            "3": _room("web-99aa88bb77cc66dd", 12, 1, "agent-de", now),
            "4": _room("conference", 4000, 0, None, now),
        },
        "calls": {str(number): _call(number, now) for number in range(60)},
        "incidents": {
            "1": _incident("1", "agent has ended with exit code 1", now - 75, None),
            "2": _incident("2", "agent-de was killed by signal 9", now - 3010, now - 3000),
        },
        "repairs": {
            "1": _repair(
                "1", now - 3000, "agent-de", ok=True, took_s=3.4, reason="it was killed by signal 9"
            ),
            "2": _repair(
                "2",
                now - 60,
                "agent",
                ok=False,
                took_s=1.2,
                attempt=3,
                reason="it has ended",
                error=no_module,
            ),
        },
    }
    return {"at": now, "sections": {name: {"rows": rows} for name, rows in sections.items()}}


_FINDING = {
    "rule": "agent-code",
    "severity": "error",
    "cause": "agent can't be loaded: No module named 'openai'",
    "evidence": ["agent/agent.py, line 4"],
    "fix": "add openai to requirements.txt, then `inv start --only agent`",
    "host": _HERE,
}


@asynccontextmanager
async def sample_dashboard() -> AsyncIterator[str]:
    """Serve it with the sample; its address. No LiveKit is needed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "line").write_text(json.dumps(sample(time.time())))
        (folder / "why").write_text(json.dumps({"findings": [_FINDING], "hosts": {}}))
        AuditLog(folder / "audit.log").write(
            new_entry("1", "restart", "agent", by="this machine", drop_calls=False)
        )
        dashboard = DashboardSettings(
            feed=(sys.executable, "-c", _PRINT, str(folder / "line"), "600"),
            program=(sys.executable, "-c", _PRINT, str(folder / "why"), "0"),
            inventory="",
            audit_log=str(folder / "audit.log"),
        )
        async with page_without_livekit(dashboard) as origin:
            yield f"{origin}/ops"


async def picture(page: Page, scheme: str, width: int) -> Image.Image:
    """The whole dashboard."""
    await page.look(width=width, dark=scheme == "dark")
    height = await page.evaluate(
        "Math.ceil(document.getElementById('main').getBoundingClientRect().bottom + scrollY)"
    )
    await page.look(width=width, height=height, dark=scheme == "dark")
    await asyncio.sleep(0.3)
    return Image.open(io.BytesIO(await page.screenshot())).convert("RGB")


async def main() -> None:
    """Take the pictures."""
    async with sample_dashboard() as url, chromium() as browser:
        page = await browser.page()
        await page.open(url, ready=READY)
        await page.send("Emulation.setScrollbarsHidden", hidden=True)  # one that goes leaves its place free
        for name, (scheme, width) in LOOKS.items():
            shown = await picture(page, scheme, width)
            shown.quantize(128).save(FOLDER / f"dashboard-{name}.png", optimize=True)


if __name__ == "__main__":
    asyncio.run(main())
