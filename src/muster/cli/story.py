"""What a command that does something step by step tells meanwhile."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

__all__ = ["Story"]


class Story:
    """Tells the steps: one line each for people, or one JSON object each.

    Colours only on a terminal.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._colour = sys.stdout.isatty() and not as_json
        self._began = time.monotonic()

    def tell(self, step: str, line: str, /, *, detail: str = "", **facts: Any) -> None:
        """One step that has happened; ``detail`` goes on a line of its own, and not into JSON."""
        seconds = time.monotonic() - self._began
        if self._json:
            click.echo(json.dumps({"step": step, "seconds": round(seconds, 3), **facts}))
            return
        mark = self._style("✓", fg="green") if self._colour else "*"
        click.echo(f"{seconds:6.2f} s  {mark} {self._style(f'{step:<9}', bold=True)} {line}")
        if detail:
            click.echo(f"{'':<21}{self._style(detail, dim=True)}")

    def say(self, text: str) -> None:
        """Text that comes bit by bit, on one line; not part of JSON."""
        if not self._json:
            clean = "".join(char if char.isprintable() else " " for char in text)
            click.echo(self._style(clean, fg="cyan"), nl=False)

    def break_line(self) -> None:
        """A line break after ``say``."""
        if not self._json:
            click.echo()

    def _style(self, text: str, **style: Any) -> str:
        return click.style(text, **style) if self._colour else text
