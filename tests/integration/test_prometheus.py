"""A real Prometheus scrapes the metrics, checks and unit-tests the alert rules, and answers every query of the dashboard."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import parts
from voiceops.metrics.endpoint import MetricsEndpoint
from voiceops.metrics.recorder import MetricsRecorder
from voiceops.model.monitor_events import (
    AlertRaised,
    CheckSummary,
    Incident,
    MonitorEvent,
    ProbeCall,
    Repair,
    RoomCounts,
    WebhookEvent,
)

TEMPLATES = Path(__file__).resolve().parents[2] / "templates" / "monitoring"
RULES = TEMPLATES / "prometheus-rules.yml"
SERIES = {
    "VoiceopsMonitorDown": ['up{job="voiceops", instance="a"}', "0x30"],
    "VoiceopsServiceNotReady": ['voiceops_service_state{host="a", service="agent", state="failed"}', "1x30"],
    "VoiceopsNoWorker": ['voiceops_workers_registered{host="a"}', "0x30"],
    "VoiceopsRoomsStuck": ['voiceops_rooms_stuck{host="a"}', "2x30"],
    "VoiceopsAnswerRateLow": [
        'voiceops_calls_total{host="a", kind="caller", outcome="unanswered"}',
        "0+6x60",
    ],
    "VoiceopsAnswersSlow": [
        'voiceops_call_answer_seconds_bucket{host="a", kind="caller", le="1.0"}',
        "0+1x60",
    ],
    "VoiceopsProbeFailed": ['voiceops_probe_success{host="a"}', "0x30"],
    "VoiceopsRepairsFrequent": ['voiceops_repairs_total{host="a", action="restart", result="ok"}', "0+1x60"],
}
"""Rule to a series that makes it fire, beside those of a healthy stack."""
HEALTHY = {
    'up{job="voiceops", instance="a"}': "1x60",
    'voiceops_service_state{host="a", service="agent", state="failed"}': "0x60",
    'voiceops_service_state{host="a", service="agent", state="ready"}': "1x60",
    'voiceops_service_state{host="a", service="migrate", state="completed"}': "1x60",
    'voiceops_workers_registered{host="a"}': "1x60",
    'voiceops_rooms_stuck{host="a"}': "0x60",
    'voiceops_calls_total{host="a", kind="caller", outcome="answered"}': "0+60x60",
    'voiceops_calls_total{host="a", kind="caller", outcome="unanswered"}': "0+1x60",
    'voiceops_call_answer_seconds_bucket{host="a", kind="caller", le="1.0"}': "0+60x60",
    'voiceops_call_answer_seconds_bucket{host="a", kind="caller", le="10.0"}': "0+60x60",
    'voiceops_call_answer_seconds_bucket{host="a", kind="caller", le="+Inf"}': "0+60x60",
    'voiceops_probe_success{host="a"}': "1x60",
    'voiceops_repairs_total{host="a", action="restart", result="ok"}': "2x60",
}


def tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = parts.prometheus() / "promtool"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def case(series: dict[str, str], rule: str, *, fires: bool) -> dict[str, object]:
    """A unit test of promtool: does the rule fire after 25 minutes?"""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{rule}", alertstate="firing"}}) or vector(0)',
                "eval_time": "25m",
                "exp_samples": [{"labels": "{}", "value": 1 if fires else 0}],
            }
        ],
    }


def test_each_rule_fires_for_its_fault_and_none_for_a_healthy_stack(tmp_path: Path) -> None:
    checked = tool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rules = [one["alert"] for one in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
    assert sorted(rules) == sorted(SERIES)
    tests = [case(HEALTHY, rule, fires=False) for rule in rules]
    tests += [case(HEALTHY | {SERIES[rule][0]: SERIES[rule][1]}, rule, fires=True) for rule in rules]
    file = tmp_path / "rules_test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))

    done = tool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def events(at: float) -> Iterator[MonitorEvent]:
    """Everything that a monitor can say, so that no query of the dashboard is without a series."""
    yield CheckSummary(
        at=at,
        host="h",
        ok=True,
        took_s=0.1,
        services={"agent": "ready"},
        worker_count=1,
        call_count=1,
        rooms=RoomCounts(total=1, in_call=1),
    )
    yield Incident(at=at, host="h", incident=str(at), cause="no-worker", began_at=at)
    yield Repair(at=at, host="h", action="restart", subject="agent")
    yield ProbeCall(at=at, host="h", ok=True, audio_s=0.4)
    yield AlertRaised(at=at, host="h", alert="no-worker")
    for kind, sid, agent in (
        ("participant_joined", "P", False),
        ("track_published", "A", True),
        ("participant_left", "P", False),
    ):
        yield WebhookEvent(
            at=at,
            host="h",
            delivery=f"{kind}{at}",
            kind=kind,
            room=f"r{at}",
            participant_sid=f"{sid}{at}",
            is_agent=agent,
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a Prometheus that scrapes a monitor's metrics each second."""
    recorder = MetricsRecorder("h")
    endpoint = MetricsEndpoint(recorder.registry, address="127.0.0.1", port=0)
    port = parts.free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "voiceops", "static_configs": [{"targets": [f"127.0.0.1:{endpoint.port}"]}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(configuration))
    arguments = [
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([parts.prometheus() / "prometheus", *arguments], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 30
        while len(values(url, "count_over_time(voiceops_check_ok[1m]) >= 3")) == 0:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            for event in events(time.time()):
                recorder.record(event)
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)
        endpoint.close()


def values(url: str, query: str) -> list[Any]:
    """The series that a query has; an empty list also while Prometheus starts."""
    address = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code != 503:  # it is starting
            raise ValueError(f"{query}: {error.read()!r}") from None
        return []
    except urllib.error.URLError:
        return []
    assert document["status"] == "success", f"{query}: {document}"
    return list(document["data"]["result"])


def dashboard_queries() -> list[str]:
    """Each query of the dashboard, its variables set as Grafana sets them."""
    dashboard = json.loads((TEMPLATES / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [one.replace("$host", ".*").replace("$__rate_interval", "1m") for one in queries]


def test_every_query_of_the_dashboard_has_a_series_and_every_rule_is_evaluated(server: str) -> None:
    without = [query for query in dashboard_queries() if not values(server, query)]
    assert without == []
    with urllib.request.urlopen(f"{server}/api/v1/rules", timeout=10) as answer:
        rules = json.load(answer)["data"]["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert len(rules) == len(SERIES)
