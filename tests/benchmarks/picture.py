"""The picture of what was measured: an SVG, a panel of bars for each scenario.

Bars begin at zero and are as long as their figures, each panel on a scale of its own. A dashed line
is our figure that would just reach a target.
"""

from collections.abc import Sequence
from html import escape

from .report import short
from .running import Outcome, Verdict
from .scenarios import LIBRARIES, OURS

__all__ = ["draw"]

COLOURS = {
    OURS: "#4f46e5",
    "trio-websocket": "#94a3b8",
    "trio-websocket, tuned": "#cbd5e1",
    "websockets": "#f59e0b",
    "picows": "#10b981",
    "bare trio stream": "#64748b",
    "bare tap": "#8a6d3b",
}
WIDTH = 1120
COLUMNS = 2
MARGIN = 32
GAP = 24
PANEL = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
BAR, STEP = 18, 26
HEAD, FOOT = 58, 36
NAMES = 160
FIGURES = 68

_STYLE = """
text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
.title { font-size: 22px; font-weight: 700; fill: #0f172a; }
.note { font-size: 12px; fill: #64748b; }
.scenario { font-size: 14px; font-weight: 600; fill: #0f172a; }
.name { font-size: 12px; fill: #334155; }
.ours { font-weight: 700; fill: #312e81; }
.met { font-size: 12px; font-weight: 600; fill: #15803d; }
.missed { font-size: 12px; font-weight: 600; fill: #b91c1c; }
"""


def draw(outcomes: Sequence[Outcome], subtitle: str) -> str:
    """Give the SVG; *subtitle* tells what it was measured with."""
    top = 92.0
    parts: list[str] = []
    for at in range(0, len(outcomes), COLUMNS):
        row = outcomes[at : at + COLUMNS]
        height = max(map(_height, row))
        for column, outcome in enumerate(row):
            x = MARGIN + column * (PANEL + GAP)
            parts.append(f'<g transform="translate({x:g} {top:g})">{_panel(outcome, height)}</g>')
        top += height + GAP
    height = top - GAP + MARGIN
    head = (
        f'<text class="title" x="{MARGIN}" y="46">WebSocket clients for Python</text>'
        f'<text class="note" x="{MARGIN}" y="68">{escape(subtitle)}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" '
        f'viewBox="0 0 {WIDTH} {height:g}"><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#f1f5f9"/>{head}{"".join(parts)}</svg>\n'
    )


def _height(outcome: Outcome) -> float:
    return HEAD + STEP * len(outcome.readings) + FOOT


def _panel(outcome: Outcome, height: float) -> str:
    scenario = outcome.scenario
    names = [library.name for library in LIBRARIES if library.name in outcome.readings]
    marks = [(verdict, _mark(outcome, verdict)) for verdict in outcome.verdicts()]
    longest = max([outcome.median(name) for name in names] + [mark for _, mark in marks])
    scale = (PANEL - NAMES - FIGURES - 16) / max(longest, 1e-9)
    better = "less is better" if scenario.unit.less_is_better else "more is better"
    parts = [
        f'<rect width="{PANEL:g}" height="{height:g}" rx="10" fill="#ffffff"/>',
        f'<text class="scenario" x="16" y="26">{escape(scenario.title)}</text>',
        f'<text class="note" x="16" y="44">{escape(scenario.unit.value)}, {better}</text>',
    ]
    for index, name in enumerate(names):
        parts.append(_bar(name, HEAD + STEP * index, outcome.median(name), scale))
    for index, (verdict, mark) in enumerate(marks):
        parts.append(_target_line(NAMES + mark * scale, height - FOOT, met=verdict.met))
        parts.append(_target_text(verdict, 16 + index * PANEL / 2, height - 14))
    return "".join(parts)


def _bar(name: str, y: float, figure: float, scale: float) -> str:
    kind = "name ours" if name == OURS else "name"
    length = max(figure * scale, 1.5)
    middle = y + BAR / 2 + 4
    return (
        f'<text class="{kind}" x="{NAMES - 8}" y="{middle:g}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{NAMES}" y="{y:g}" width="{length:.1f}" height="{BAR}" rx="3" fill="{COLOURS[name]}"/>'
        f'<text class="{kind}" x="{PANEL - 16:g}" y="{middle:g}" text-anchor="end">{short(figure)}</text>'
    )


def _mark(outcome: Outcome, verdict: Verdict) -> float:
    return verdict.target.mark(outcome.median(verdict.target.against))


def _target_line(x: float, bottom: float, *, met: bool) -> str:
    colour = "#15803d" if met else "#b91c1c"
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 6}" y2="{bottom:g}" stroke="{colour}" '
        'stroke-width="1.5" stroke-dasharray="4 3"/>'
    )


def _target_text(verdict: Verdict, x: float, y: float) -> str:
    kind, sign = ("met", "✓") if verdict.met else ("missed", "✗")
    text = f"{sign} {verdict.target} {verdict.target.against}: {verdict.value:.2f}"
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'
