"""``muster top`` on a terminal: one screen, drawn again whenever something has changed."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from muster.cli.quantity import show_size
from muster.cli.table import printable
from muster.cli.top_text import (
    HEAD,
    event_line,
    fetches,
    model_rows,
    notes,
    spark,
    summary,
)
from muster.frontend.dashboard.view import Snapshot

__all__ = ["Screen"]

_COLOURS = {
    "healthy": "green", "serving": "green",
    "degraded": "yellow", "retrying": "yellow", "draining": "yellow",
    "unavailable": "red", "refused": "red",
    "fetching": "cyan", "verifying": "cyan", "loading": "cyan", "seen": "cyan",
}  # fmt: skip
_LEVELS = {"warning": "yellow", "error": "red"}
_WITHOUT_LATENCY = 72
"""Narrower terminals show no latencies."""
_LEAST = 6
"""Lines that a part may have on a terminal that is hardly higher."""


class Screen:
    """What is drawn: fits the terminal's height, with fewer events, then fewer models.

    Args:
        state: What the frontend has told.
        url: The frontend's address.
        trouble: Why this is not up to date, if it is not.
    """

    def __init__(self, state: Snapshot, url: str, trouble: str = "") -> None:
        self._state = state
        self._url = url
        self._trouble = trouble

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The screen for this terminal."""
        rest = (options.height or console.height) - 1
        width = options.max_width
        inner = options.update(height=None)
        for part, share in (
            (self._top(width), 1.0),
            (self._models(width), 0.6),
            (self._fetches(), 0.4),
            (self._notes(), 1.0),
        ):
            if part is not None and rest > 0:
                room = max(int(rest * share), min(rest, _LEAST))
                lines = _cut(console.render_lines(part, inner, pad=False), room)
                rest -= len(lines)
                yield from _as_segments(lines)
        if rest > 0:
            yield from _as_segments(console.render_lines(self._events(rest), inner, pad=False))

    def _top(self, width: int) -> RenderableType:
        state = self._state
        word = state.frontend.status
        head = Text().append("muster ", style="bold")
        head.append(f"{printable(self._url)} ", style="dim")
        first, *rest = summary(state)
        head.append(word, style=f"bold {_COLOURS.get(word, '')}".strip())
        head.append(printable(first.removeprefix(word)))
        lines: list[RenderableType] = [head]
        if self._trouble:
            lines.insert(0, Text(printable(self._trouble), style="bold red"))
        lines += [Text(printable(line)) for line in rest]
        bars = max(10, min(120, width - 14))
        for name, values in (
            ("requests/s", [second.started for second in state.seconds]),
            ("tokens/s", [second.tokens for second in state.seconds]),
        ):
            lines.append(Text(f"{name:<11}").append(spark(values, bars), style="blue"))
        return Group(*lines)

    def _models(self, width: int) -> RenderableType:
        rows = model_rows(self._state)
        if not rows:
            return Text("\nno model is registered", style="dim")
        columns = len(HEAD) if width >= _WITHOUT_LATENCY else 6
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, padding=(0, 1))
        for index, title in enumerate(HEAD[:columns]):
            right = index > 1
            table.add_column(
                title,
                justify="right" if right else "left",
                ratio=1 if index == 0 else None,
                no_wrap=True,
                overflow="ellipsis",
            )
        for row in rows:
            table.add_row(
                *(
                    Text(printable(cell), style=_COLOURS.get(cell, "") if index == 1 else "")
                    for index, cell in enumerate(row[:columns])
                )
            )
        return table

    def _fetches(self) -> RenderableType | None:
        found = fetches(self._state)
        if not found:
            return None
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=2)
        table.add_column(justify="right", no_wrap=True)
        for model, file in found:
            total = file.size_bytes
            table.add_row(
                Text(printable(f"{model} {file.name}")),
                ProgressBar(total=total or 1, completed=file.done_bytes if total else 0),
                Text(f"{show_size(file.done_bytes)} of {show_size(total) if total else '?'}"),
            )
        return table

    def _notes(self) -> RenderableType | None:
        found = [Text(printable(line), style="yellow") for line in notes(self._state)]
        return Group(*found, Text()) if found else None

    def _events(self, room: int) -> RenderableType:
        shown = self._state.events[-max(room, 0) :] if room > 0 else ()
        return Group(
            *(
                Text(
                    printable(event_line(event)),
                    style=_LEVELS.get(event.level, "dim"),
                    no_wrap=True,
                    overflow="ellipsis",
                )
                for event in reversed(shown)
            )
        )


def _cut(lines: list[list[Segment]], room: int) -> list[list[Segment]]:
    """At most ``room`` lines, of which the last says how many are missing."""
    if len(lines) <= room:
        return lines
    missing = len(lines) - room + 1
    return [*lines[: room - 1], [Segment(f"... {missing} more lines", Style(dim=True))]]


def _as_segments(lines: list[list[Segment]]) -> Iterator[Segment]:
    for line in lines:
        yield from line
        yield Segment.line()
