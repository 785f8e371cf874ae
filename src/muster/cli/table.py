"""Tables on standard output: drawn on a terminal, plain aligned columns otherwise."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

__all__ = ["printable", "show_table"]

_COLOURS = {"ready": "green", "refused": "red", "retrying": "red", "unreadable": "red"}
"""Colour of the words that say how a model stands; on a terminal only."""


def printable(text: str) -> str:
    """``text`` with what a terminal would act upon spelled out: it may come from anybody."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; its last column is not padded, so that lines have no trailing spaces."""
    clean = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(head, clean)
        return
    widths = [max(map(len, column)) for column in zip(head, *clean, strict=True)]
    for line in [head, *clean]:
        cells = [f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _draw(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        # Text, not str: rich would take brackets in a name for its markup.
        table.add_row(*[Text(cell, style=_COLOURS.get(cell.split(":")[0], "")) for cell in row])
    Console().print(table)
