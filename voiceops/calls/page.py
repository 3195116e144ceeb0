"""The HTML report of a run: one file, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from voiceops.calls.chart import draw
from voiceops.calls.pictures import svg
from voiceops.calls.plan import lines_for
from voiceops.calls.stats import MEASURES, PERCENTILES, CallReport
from voiceops.calls.text import describe
from voiceops.errors import StorageError

_MAX_ROWS = 2000
_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;background:#f4f6f8;margin:0;padding:2rem}
main{max-width:60rem;margin:auto}
section{background:#fff;border:1px solid #dde3ea;border-radius:8px;padding:1.25rem;margin:0 0 1.25rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.05rem;margin:0 0 .75rem}
p{margin:.25rem 0}.faint{color:#66727f}
.verdict{font-weight:600}.bad{color:#c0392b}.good{color:#1b7f79}
svg{width:100%;height:auto;display:block}
div.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #eef1f4;white-space:nowrap}
th:first-child,td:first-child,td.text,th.text{text-align:left}td.text{white-space:normal}
code{background:#eef1f4;padding:.1rem .3rem;border-radius:4px}
"""


def page(report: CallReport, *, url: str, made_at: str) -> str:
    """The whole document."""
    good = report.good_enough
    verdict = "passed" if good else f"failed: {report.plan.expect_success:.1%} were expected"
    sections = [
        f"<h1>{report.ok} of {len(report.results)} calls answered</h1>"
        f'<p class="verdict {"good" if good else "bad"}">{verdict}</p>'
        f"<p>{escape(describe(report.plan, lines_for(report.plan)))}</p>"
        f'<p class="faint">{escape(url)}, {escape(made_at)}, {report.duration_s:.1f} s</p>',
        svg(draw(report)),
        "<h2>Seconds since dialling</h2>" + _percentiles(report),
        "<h2>The calling side</h2>" + _callers(report),
    ]
    if report.failed:
        sections.append("<h2>Failed calls</h2>" + _failed(report))
    sections.append("<h2>All calls</h2>" + _calls(report))
    return html_page(f"voiceops call: {report.ok} of {len(report.results)}", sections)


def html_page(title: str, sections: Iterable[str]) -> str:
    """Return a whole document of sections that are HTML."""
    body = "\n".join(f"<section>{section}</section>" for section in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def save_page(text: str, file: str) -> None:
    """Write a report; ``StorageError`` if that fails."""
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"can't write {file}: {error.strerror or error}") from error


def _percentiles(report: CallReport) -> str:
    heads = ["", *(f"p{percent}" for percent in PERCENTILES), "max", "calls"]
    found = [report.percentiles(percent) for percent in (*PERCENTILES, 100)]
    rows = [
        [label, *(f"{row[name]:.3f}" for row in found), str(len(report.values(name)))]
        for name, label in MEASURES.items()
        if name in found[0]
    ]
    return html_table(heads, rows)


def _callers(report: CallReport) -> str:
    load = report.load
    where = f"{load.processes} caller processes" if load.processes else "one process"
    facts = (
        f"<p>{where}, {load.cpu_share:.0%} of this machine's CPU; the machine was {load.machine_cpu:.0%} busy; "
        f"event loops woke up {load.lag_p95_s * 1000:.0f} ms late (p95)</p>"
    )
    if load.starved:
        return facts + f'<p class="verdict bad">The callers were the bottleneck: {escape(load.detail)}.</p>'
    return facts + "<p>The callers were not the bottleneck.</p>"


def _failed(report: CallReport) -> str:
    counts = ", ".join(f"{kind}: {count}" for kind, count in report.failures.items())
    rows = []
    for result in report.results:
        if result.failure is None:
            continue
        findings = (result.verdict or {}).get("findings", ())
        why = "; ".join(f"{one['rule']}: {one['cause']}" for one in findings)
        fix = "; ".join(str(one["fix"]) for one in findings)
        seen = "; ".join(result.failure.seen)
        rows.append(
            [str(result.id), result.failure.kind.value, f"{result.failure.detail} ({seen})", why, fix]
        )
    return f"<p>{escape(counts)}</p>" + html_table(
        ["call", "kind", "what was seen", "why", "fix"], rows, text_from=1
    )


def _calls(report: CallReport) -> str:
    rows = [
        [
            str(result.id),
            f"{result.started_s:.2f}",
            *("" if (value := getattr(result, name)) is None else f"{value:.3f}" for name in MEASURES),
            "" if result.quality is None else f"{result.quality:.1f}",
            "" if result.loss is None else f"{result.loss:.1%}",
            "; ".join(f"{one.change} at {one.at_s:.1f} s" for one in result.agent_changes),
            "" if result.rms is None else str(result.rms),
            "ok" if result.failure is None else result.failure.kind.value,
        ]
        for result in report.results[:_MAX_ROWS]
    ]
    more = len(report.results) - len(rows)
    note = f"<p>and {more} more: --json has them all</p>" if more > 0 else ""
    return (
        html_table(
            ["call", "began", *MEASURES.values(), "quality", "lost", "agents", "loudness", "result"], rows
        )
        + note
    )


def html_table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, text_from: int | None = None) -> str:
    """Return a table of texts; from column ``text_from`` on they are prose."""

    def cells(tag: str, values: Iterable[str]) -> str:
        marked = (
            f'<{tag} class="text">' if text_from is not None and index >= text_from else f"<{tag}>"
            for index, _ in enumerate(values)
        )
        return "".join(f"{start}{escape(value)}</{tag}>" for start, value in zip(marked, values, strict=True))

    head = cells("th", list(heads))
    body = "".join(f"<tr>{cells('td', list(row))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
