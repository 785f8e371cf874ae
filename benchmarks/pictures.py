"""Pictures as SVG, by hand: bars of ratios, and lines over a logarithmic axis.

Each stands on a white ground of its own, so that it reads the same on a light and on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from words import SYSTEMS

__all__ = ["Bar", "Panel", "bars", "lines"]

COLOURS = {"muster": "#1f6fb2", "peer": "#b5541c"}
_INK, _FAINT, _GRID = "#1f2933", "#52606d", "#d9e2ec"
_GOOD, _BAD = "#2f7d4f", "#b3261e"


class Bar(NamedTuple):
    """A ratio to the peer, and what it is meant to be."""

    label: str
    ratio: float
    target: float
    met: bool


class Panel(NamedTuple):
    """A plot: by system, values over x. The axis of x is logarithmic; that of y begins at 0 if not."""

    title: str
    x_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False


class _Drawing:
    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = f'width="{width}" height="{height}"'
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {self._size} '
            f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{_INK}" role="img" '
            f'aria-labelledby="title">\n<title id="title">{escape(title)}</title>'
        )
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str, more: str = "") -> None:
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" {more}/>'
        )

    def text(self, x: float, y: float, words: str, more: str = "") -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>')

    def path(self, points: Sequence[tuple[float, float]], stroke: str) -> None:
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{at}" fill="none" stroke="{stroke}" stroke-width="2"/>'
        )
        self._parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{stroke}"/>' for x, y in points
        ]

    def svg(self) -> str:
        ground = f'<rect {self._size} fill="#ffffff"/>'
        return "\n".join([self._head, ground, *self._parts, "</svg>"]) + "\n"


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Ratios to the peer on a logarithmic axis, from 1; a mark at each target."""
    left, right, top, step = 440, 130, 64, 24
    width, height = 1060, top + step * len(rows) + 40
    values = [max(value, 1e-3) for row in rows for value in (row.ratio, row.target)]
    low, high = math.log10(min([0.5, *values])) - 0.05, math.log10(max([2.0, *values])) + 0.05
    drawing = _Drawing(width, height, title)
    bottom = top + step * len(rows)

    def x_of(value: float) -> float:
        part = (math.log10(max(value, 1e-3)) - low) / (high - low)
        return left + (width - left - right) * part

    drawing.text(24, 28, title, 'font-size="16" font-weight="bold"')
    drawing.text(
        24,
        48,
        "bar: Muster / peer; mark: target; green: met, red: missed; logarithmic",
        f'fill="{_FAINT}"',
    )
    for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20):
        if low <= math.log10(tick) <= high:
            x = x_of(tick)
            drawing.line(x, top, x, bottom, _FAINT if tick == 1 else _GRID)
            drawing.text(x, bottom + 20, f"{tick:g}x", f'text-anchor="middle" fill="{_FAINT}"')
    for number, row in enumerate(rows):
        y = top + step * number
        start, end = sorted((x_of(1), x_of(row.ratio)))
        drawing.text(left - 12, y + 16, row.label, 'text-anchor="end"')
        drawing.rect(start, y + 5, max(end - start, 1.5), step - 10, _GOOD if row.met else _BAD)
        x = x_of(row.target)
        drawing.line(x, y + 2, x, y + step - 2, _INK, 'stroke-width="2.5"')
        verdict = "" if row.met else " missed"
        drawing.text(width - right + 14, y + 16, f"{row.ratio:.2f}x{verdict}")
    return drawing.svg()


def lines(title: str, panels: Sequence[Panel]) -> str:
    """Panels beside each other, a line for each system."""
    wide, tall, left, top = 460, 250, 76, 84
    width, height = 20 + wide * len(panels), top + tall + 62
    drawing = _Drawing(width, height, title)
    drawing.text(24, 28, title, 'font-size="16" font-weight="bold"')
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    for number, name in enumerate(names):
        x = 24 + 110 * number
        drawing.rect(x, 42, 14, 10, COLOURS[name])
        drawing.text(x + 20, 52, SYSTEMS[name])
    for number, panel in enumerate(panels):
        _panel(drawing, panel, 20 + wide * number + left - 20, top, wide - left - 24, tall)
    return drawing.svg()


def _panel(
    drawing: _Drawing, panel: Panel, left: float, top: float, wide: float, tall: float
) -> None:
    points = [point for series in panel.series.values() for point in series]
    across = sorted({x for x, _ in points})
    first, last = math.log10(across[0]), math.log10(across[-1])
    ticks = (_powers if panel.logarithmic else _steps)([y for _, y in points])

    def height(y: float) -> float:
        if panel.logarithmic:
            return math.log10(y / ticks[0]) / math.log10(ticks[-1] / ticks[0])
        return y / ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        part = (math.log10(x) - first) / (last - first)
        return left + wide * part, top + tall * (1 - height(y))

    drawing.text(left, top - 14, panel.title, 'font-weight="bold"')
    for tick in ticks:
        _, y = place(across[0], tick)
        drawing.line(left, y, left + wide, y, _GRID)
        drawing.text(left - 8, y + 4, f"{tick:,.6g}", f'text-anchor="end" fill="{_FAINT}"')
    for value in across:
        x, y = place(value, ticks[0])
        drawing.text(x, y + 18, f"{value:,g}", f'text-anchor="middle" fill="{_FAINT}"')
    drawing.text(
        left + wide / 2, top + tall + 40, panel.x_label, f'text-anchor="middle" fill="{_FAINT}"'
    )
    for name, series in panel.series.items():
        drawing.path([place(*point) for point in series], COLOURS[name])


def _steps(values: Sequence[float]) -> list[float]:
    """Even marks from 0 to above all values."""
    step = _nice(max(values) / 5)
    return [step * number for number in range(math.ceil(max(values) / step) + 1)]


def _powers(values: Sequence[float]) -> list[float]:
    """Marks at 1, 2, 5, 10, ... from below all values to above."""
    exponents = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    marks = [part * 10.0**exponent for exponent in exponents for part in (1, 2, 5)]
    low = max(mark for mark in marks if mark <= min(values))
    high = min(mark for mark in marks if mark >= max(values))
    return [mark for mark in marks if low <= mark <= high]


def _nice(rough: float) -> float:
    """The least of 1, 2, 5, 10, ... that is not below ``rough``."""
    power = 10.0 ** math.floor(math.log10(max(rough, 1e-9)))
    return next(part * power for part in (1.0, 2.0, 5.0, 10.0) if part * power >= rough * 0.999)
