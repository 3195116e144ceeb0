"""The HTML report of a capacity test: one file, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from voiceops.calls.capacity import (
    ANSWER_LIMIT_S,
    CAPACITY_HEADINGS,
    GAP_LIMIT_S,
    CapacityTrial,
    capacity_row,
    most_carried,
)
from voiceops.calls.capacity_chart import draw_capacity
from voiceops.calls.page import html_page, html_table
from voiceops.calls.pictures import svg
from voiceops.util.words import counted

_LIMITS = (
    f"A number is carried when every call is answered, 95 of 100 within {ANSWER_LIMIT_S:g} s, no gap of the agent's sound is "
    f"longer than {GAP_LIMIT_S * 1000:.0f} ms and no packet is lost. Most tries of a number decide."
)


def capacity_page(
    steps: Sequence[CapacityTrial],
    gave_in: tuple[str, str],
    settings: Mapping[str, float],
    *,
    host: str,
    made_at: str,
    duration_s: float,
    stopped: str,
) -> str:
    """The whole document."""
    carried = most_carried(steps)
    title = f"{counted(carried, 'call')} at once"
    early = f'<p class="verdict bad">stopped early: {escape(stopped)}</p>' if stopped else ""
    found = (
        f"<h1>{title}</h1>{early}<p>What gave in first: {escape(gave_in[1])}</p>"
        f'<p>{_LIMITS}</p><p class="faint">{escape(host)}, {escape(made_at)}, {duration_s:.0f} s</p>'
    )
    sections = [found, svg(draw_capacity(steps, gave_in[0]))]
    if settings:
        lines = "".join(f"<p><code>{name}: {value:g}</code></p>" for name, value in settings.items())
        sections.append(f"<h2>Settings of the agent that follow</h2>{lines}")
    rows = [capacity_row(one) for one in steps]
    sections.append(
        f"<h2>Each number that was tried</h2>{html_table(CAPACITY_HEADINGS, rows, text_from=len(CAPACITY_HEADINGS) - 1)}"
    )
    return html_page(f"voiceops capacity: {title}", sections)
