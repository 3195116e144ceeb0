"""Why calls fail: what anybody may read, and what operators get."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.fakes.livekit_api import FakeLivekitApi
from voiceops.web.causes import Cause, Causes, read_report

FINDINGS = {
    "ok": False,
    "findings": [{"rule": "no-worker", "cause": "no worker is registered", "fix": "inv start"}],
}


async def test_a_missing_agent_is_told_without_internals_but_to_operators(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps(FINDINGS))
    command = [sys.executable, "-c", f"print(open({str(report)!r}).read())"]
    causes = Causes(FakeLivekitApi(), command)
    assert await causes.find(for_operator=False) == ()
    causes.note("no worker has taken the job")
    (public,) = await causes.find(for_operator=False)
    assert (public.code, public.detail) == ("agent-missing", "")
    (noted,) = await causes.find(for_operator=True)
    assert noted.detail == "no worker has taken the job"
    found = (Cause(code="no-worker", text="no worker is registered", detail="inv start"),)
    assert await causes.report() == found
    report.unlink()
    assert await causes.report() == found  # its answer counts for some seconds


def test_a_report_that_can_t_be_read_is_a_finding_of_its_own() -> None:
    for output in (b"", b"Traceback", b"{}", b'{"findings": [5]}'):
        (one,) = read_report(output)
        assert one.code == "why"
